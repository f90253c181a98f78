"""From a step that was compiled for a TPU slice to the least time and the price of a training.

The time of a step is at least that of its operations, of its traffic with HBM, and of its messages,
each at the chip's full speed (the roofline of Williams et al., 2009). Real steps take longer. Only
where the traffic decides may they take less: in a plan the compiler keeps nothing on the chip.
"""

import re
from collections import Counter
from typing import Any

from swav_jax.plan import compiled as plan
from swav_jax.plan.chips import Chip
from swav_jax.plan.loops import operations

# An operation of a TPU program with its name and what the compiler thinks that it takes.
OPERATION = re.compile(r'op_name="(?P<name>[^"]*)".*"estimated_cycles":"(?P<cycles>\d+)"')
# XLA's words where a program does not fit.
NEEDED = re.compile(r"required [\w ]*\(([\d.]+)([KMGT])\) exceeds available HBM")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def estimate(compiled: Any, chip: Chip, images: float) -> dict[str, Any]:
    """What a step costs on one chip.

    Args:
      compiled: the step, from `compile_step`.
      chip: that it was compiled for.
      images: of a batch for each chip; chips that share prototypes share images.

    Returns:
      what `plan.json` holds of a step that fits: bytes on a device by kind, FLOPs and HBM bytes an
      image, messages, the least seconds of each kind and of the step, images a second and chip.
      `least_seconds["memory"]` is of a program that keeps nothing on the chip: it is no lower bound
      of a step compiled with full effort, nor is the rest where it is the greatest of the three.
    """
    memory = plan.memory(compiled)
    flops, traffic = plan.cost(compiled, "flops"), plan.cost(compiled, "bytes accessed")
    messages = plan.collectives(compiled)
    # Every chip of a ring sends what is summed nearly twice, and anything else once.
    sent = sum(2 * n if kind == "all-reduce" else n for (_, kind), n in messages.items())
    least = {
        "compute": flops / chip.flops,
        "memory": traffic / chip.bandwidth,
        "network": sent / chip.network,
    }
    seconds = max(least.values())
    return {
        **{f"{kind}_per_device": size for kind, size in memory.items()},
        "memory_share": sum(memory.values()) / chip.memory,
        "flops_per_image": flops / images,
        "hbm_bytes_per_image": traffic / images,
        "collectives": {" ".join(key): n for key, n in sorted(messages.items())},
        "least_seconds": least,
        "step_seconds": seconds,
        "images_per_second_per_chip": images / seconds,
        "expensive_operations": expensive(compiled.as_text()),
    }


def expensive(program: str, most: int = 5) -> list[dict[str, Any]]:
    """The operations that the compiler thinks take longest, and their share of all cycles.

    Args:
      program: the text of a TPU program; operations of one name count together.
      most: how many to name.
    """
    cycles: Counter[str] = Counter()
    for line, runs in operations(program):
        if match := OPERATION.search(line):
            cycles[match["name"]] += runs * int(match["cycles"])
    total = max(cycles.total(), 1)
    return [{"name": name, "share": n / total} for name, n in cycles.most_common(most)]


def needed_bytes(error: Exception) -> int | None:
    """The bytes that a program needs on a chip, if the compiler says that they are too many.

    0 if it does not say how many, None for any other error.
    """
    if "RESOURCE_EXHAUSTED" not in str(error):
        return None
    found = NEEDED.search(str(error))
    return int(float(found[1]) * UNITS[found[2]]) if found else 0
