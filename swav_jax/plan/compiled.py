"""Compiles the train step for devices that are not here: does it fit, and what does it send?"""

import importlib.util
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict

from swav_jax import sharding, step
from swav_jax.data.sources.source import Source
from swav_jax.plan.loops import operations, share_repeated
from swav_jax.run import Run, build
from swav_jax.runtime.xla import has_tpu

# "%name = f32[8,3]{1,0} all-reduce(", or a tuple of shapes in brackets. Asynchronous ones come as
# a start, whose tuple holds the operand beside the result, and a done with the result alone.
COLLECTIVE = re.compile(
    r"= (?P<shapes>\(.*?\)|\S+) (?P<kind>"
    r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-done)?)\("
)
SHAPE = re.compile(r"\b(?P<dtype>pred|bf16|[fsu]\d+)\[(?P<sizes>[\d,]*)\]")

# The purpose of a message: the first of these that occurs in the name of its operation, which holds
# the `jax.named_scope`s around it. Weight gradients are sums over the batch.
PURPOSES = {
    "batch_norm": "batch norm",
    "sinkhorn": "codes",
    "queue": "queue",
    "take_images": "images",
    "metrics": "metrics",
    "transpose(": "gradients",
}


# libtpu ends the whole process at a side of 0.
SLICE = re.compile(r"\w+:[1-9]\d*(x[1-9]\d*)+(_(un)?twisted)?")

# Nearly all of a compilation goes into machine code that nobody runs here. With the least effort a
# ResNet-50's step takes a fifth of the time. Operations and messages are those of the full effort;
# activations always pass through HBM, as they need not where the compiler keeps them on the chip.
# So the memory is at most a little more, and the traffic with HBM that of the program alone, where
# the count of a full compilation also has what is copied to and read from the chip's own memory.
LEAST_EFFORT = {"xla_optimization_level": "EFFORT_O0"}

# For libtpu where there is no TPU: it does not ask the network for the machine's name and place
# (these values appear in no result), and does not lock out a second process.
NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def topology(name: str) -> list[Any]:
    """The devices of a TPU slice such as "v5e:4x4", from the TPU's compiler alone.

    Raises:
      RuntimeError: the compiler is not installed, or does not know the slice.
    """
    if not SLICE.fullmatch(name):
        raise RuntimeError(f"no TPU slice {name!r}: name chips by their layout, like v5e:8x8")
    if not has_tpu() and not importlib.util.find_spec("libtpu"):
        raise RuntimeError('the TPU\'s compiler is missing: `pip install -e ".[plan]"` brings it')
    for variable, value in ({} if has_tpu() else NO_TPU).items():
        os.environ.setdefault(variable, value)
    try:
        return list(topologies.get_topology_desc(name, platform="tpu").devices)
    except Exception as error:
        raise RuntimeError(f"no TPU slice {name!r}, says its compiler: {error}") from error


def compile_step(
    config: ConfigDict,
    devices: Sequence[Any],
    images: int,
    image_size: tuple[int, int] | None = None,
) -> Any:
    """The train step of a configuration, compiled for the given devices; no data is needed.

    For TPUs it is compiled with the least effort: to be measured, not to be run.

    Args:
      config: of the run. Images that `data.cache` would keep on the devices are cut there.
      devices: present ones, or those of a `topology`.
      images: size of the training set.
      image_size: H and W of all of them; None where they differ: crops come from the host then.

    Returns:
      a `jax.stages.Compiled`.

    Raises:
      ConfigError: a setting cannot work, for example images that do not fit on the devices.
    """
    config = config.copy_and_resolve_references()
    data = config.data
    if data.cache == "host" or not image_size:
        data.cache = "none"  # the memory of the hosts there is not known
    if not image_size:
        data.crop_on = "host"  # nor what canvases the images need
    run = build(config, source=_nothing(images, image_size), devices=devices)
    options = LEAST_EFFORT if devices[0].platform == "tpu" else {}
    with jax.set_mesh(run.mesh):
        state, batch = step.state_shapes(run), step.batch_of(run, _on_devices(run))
        with _without_cache():
            lowered = step.compiled_step(run, state).lower(state, batch)
            return lowered.compile(compiler_options=options)


def _on_devices(run: Run) -> jax.ShapeDtypeStruct | None:
    """The shape of the training images if they would stay on the devices."""
    if not run.cached_size:
        return None
    rows = sharding.padded_rows(run.mesh, run.source.size)
    return jax.ShapeDtypeStruct((rows, 3 * math.prod(run.cached_size)), np.uint8)


@contextmanager
def _without_cache() -> Iterator[None]:
    """Programs for devices that are not here cannot be read back from the compilation cache."""
    used = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # which remembers whether it is in use
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", used)
        compilation_cache.reset_cache()


def _nothing(images: int, image_size: tuple[int, int] | None) -> Source:
    def read(_: Any) -> Any:
        raise AssertionError("a plan reads no image")

    return Source(images, (), str, read, may_fail=False, find_labels=lambda: None, shape=image_size)


def memory(compiled: Any) -> dict[str, int]:
    """Bytes on each device: of the inputs, of new outputs, and of temporary values."""
    found = compiled.memory_analysis()
    new = found.output_size_in_bytes - found.alias_size_in_bytes  # the state takes its own place
    return {
        "argument_bytes": found.argument_size_in_bytes,
        "output_bytes": new,
        "temp_bytes": found.temp_size_in_bytes,
    }


def cost(compiled: Any, kind: str) -> float:
    """What a step costs on each device, as the compiler counts it, with every round of its loops.

    Args:
      compiled: the step.
      kind: "flops" or "bytes accessed".
    """
    return compiled.cost_analysis()[kind] * (1 + share_repeated(compiled.as_text(), kind))


def collectives(compiled: Any) -> dict[tuple[str, str], int]:
    """Bytes that each device receives in one step, by purpose (PURPOSES or "other") and kind.

    The kind is XLA's word, such as all-reduce. A message of several operations counts for the
    purpose of one of them.
    """
    found: Counter[tuple[str, str]] = Counter()
    for line, runs in operations(compiled.as_text()):
        if match := COLLECTIVE.search(line):
            kind = match["kind"].removesuffix("-done")
            found[_purpose(line), kind] += runs * bytes_of(match["shapes"])
    return dict(found)


def _purpose(line: str) -> str:
    name = re.search(r'op_name="([^"]*)"', line)
    return next((p for part, p in PURPOSES.items() if name and part in name[1]), "other")


def bytes_of(shapes: str) -> int:
    """Bytes of the arrays in a program's text, such as "(f32[8,3]{1,0}, s32[])"."""
    total = 0
    for shape in SHAPE.finditer(shapes):
        sizes = [int(size) for size in shape["sizes"].split(",") if size]
        bits = 8 if shape["dtype"] == "pred" else int(re.sub(r"\D", "", shape["dtype"]))
        total += math.prod(sizes) * bits // 8
    return total
