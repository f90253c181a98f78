"""SwAV's step of ResNet-50 as XLA compiles it for an H100 that is not here: memory and traffic.

    pip install -U "jax[cuda13]"
    python -m benchmarks.gpu.compiled [--batch 512] [--remat block]

Prints one JSON line: bytes of the card's memory, whether they fit, bytes that kernels read and
write for an image, the images a second that the memory's bandwidth allows, seconds of compilation,
and how many kernels there are of each kind. It shows that the step compiles for CUDA and what it
moves, not how fast it is: kernels are not chosen by timing, as on a card.
"""

import argparse
import json
import os
import re
import sys
import time
from collections import Counter

import jax
from jax.experimental import topologies

from benchmarks.flags import count
from benchmarks.gpu.step import USABLE, placed_shapes, run_of
from configs import swav_imagenet_100ep
from swav_jax.plan import compiled as plan
from swav_jax.plan.loops import cost_by_text
from swav_jax.step import compiled_step, state_shapes

# The card as XLA describes one (`GpuTargetConfigProto`), with the figures of NVIDIA's data sheet.
BANDWIDTH, MEMORY = 3_352_320_000_000, 84_929_347_584  # bytes a second, bytes
H100 = f"""
gpu_device_info {{
  cuda_compute_capability {{ major: 9 }}
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: {BANDWIDTH}
  device_memory_size: {MEMORY}
  l2_cache_size: 52428800
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
runtime_version {{ major: 13 }}
device_description_str: "NVIDIA H100 80GB HBM3"
"""
# "%cudnn-conv.1 = (bf16[8,4,4,64], u8[0]) custom-call(%x, %kernel), ..." is a kernel, others only
# name data.
LINE = re.compile(r"%(?P<name>\S+) = (?P<shapes>\(.*?\)|\S+) (?P<kind>[\w-]+)\((?P<inputs>.*?)\)")
NAME = re.compile(r"%([\w.-]+)")
NO_KERNELS = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}


def main() -> None:
    """Compiles the step and prints the JSON line."""
    parser = argparse.ArgumentParser(description="The step's memory and traffic on an H100.")
    parser.add_argument("--batch", type=count, default=512)
    parser.add_argument("--remat", choices=("none", "stage", "block"), default="none")
    flags = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # for all but what is compiled here
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"
    try:
        found = topologies.get_topology_desc(platform="cuda", topology="1x1x1", target_config=H100)
    except NotImplementedError:
        sys.exit('error: XLA for CUDA is missing: pip install -U "jax[cuda13]" brings it')
    card = found.devices[0]

    config = swav_imagenet_100ep.get_config()
    config.train.remat = flags.remat
    run = run_of(config, flags.batch, card)
    with jax.set_mesh(run.mesh):
        shapes = state_shapes(run)
        lowered = compiled_step(run, shapes).lower(shapes, placed_shapes(run))
        begin = time.monotonic()
        compiled = lowered.compile()
        seconds = time.monotonic() - begin
    memory, program = plan.memory(compiled), compiled.as_text()
    moved = cost_by_text(program, "bytes accessed") + bytes_of_calls(program)
    traffic = moved / flags.batch
    figures = {
        "card": card.device_kind,
        "batch": flags.batch,
        "remat": flags.remat,
        "compile_seconds": seconds,
        "memory_bytes": memory,
        "fits": sum(memory.values()) <= USABLE * MEMORY,
        "bytes_per_image": traffic,
        "images_per_second_of_bandwidth": BANDWIDTH / traffic,
        "kernels": kernels(program),
    }
    print(json.dumps(figures))


def entry(program: str) -> list[re.Match[str]]:
    """The operations of a program's main part."""
    lines = program[program.index("\nENTRY ") :].splitlines()
    return [match for line in lines if (match := LINE.search(line))]


def bytes_of_calls(program: str) -> int:
    """Bytes that calls of libraries, such as cuDNN's convolutions, read and write."""
    found = entry(program)
    sizes = {line["name"]: plan.bytes_of(line["shapes"]) for line in found}
    return sum(
        sizes[line["name"]] + sum(sizes.get(name, 0) for name in NAME.findall(line["inputs"]))
        for line in found
        if line["kind"] == "custom-call"
    )


def kernels(program: str, most: int = 12) -> dict[str, int]:
    """How many kernels of the most frequent kinds a step starts, by XLA's names for them."""
    names = [line["name"] for line in entry(program) if line["kind"] not in NO_KERNELS]
    return dict(Counter(re.sub(r"[.\d]+$", "", name) for name in names).most_common(most))


if __name__ == "__main__":
    main()
