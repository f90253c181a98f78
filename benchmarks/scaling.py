"""The train step compiled for several numbers of devices: memory, work and messages of each device.

    python -m benchmarks.scaling [--config configs/swav_imagenet_100ep.py] [--batch 64]
                                 [--devices 1,8,64] [--model 1,1,1] [--prototypes 3000]

For weak scaling `--batch` counts the images of each device, whose memory and FLOPs should then stay
the same. Nothing is run: the TPU's compiler works without a TPU, on Linux; install it with
`pip install -e ".[plan]"`. Prints a table, and JSON as its last line.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

from ml_collections import ConfigDict

from benchmarks.flags import count, counts
from swav_jax.plan import compiled as plan
from swav_jax.runtime.xla import start

IMAGES = 1_281_167  # of ImageNet
TOPOLOGIES = {4: "v5e:2x2", 8: "v5e:2x4", 16: "v5e:4x4", 64: "v5e:8x8", 256: "v5e:16x16"}


def main() -> None:
    """Compiles the step for each number of devices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/swav_imagenet_100ep.py"))
    parser.add_argument("--batch", type=count, default=64, help="images of each device")
    parser.add_argument("--devices", type=counts, default="1,8,64", help="numbers of devices")
    parser.add_argument(
        "--model", type=counts, default="1", help="mesh.model, one or one for each of --devices"
    )
    parser.add_argument("--prototypes", type=count, default=3000)
    flags = parser.parse_args()
    devices, shards = flags.devices, flags.model
    shards = shards * len(devices) if len(shards) == 1 else shards
    if len(shards) != len(devices):
        parser.error(f"--model has {len(shards)} numbers and --devices {len(devices)}")
    if not 1 <= min(devices) <= max(devices) <= max(TOPOLOGIES):
        parser.error(f"--devices must be from 1 to {max(TOPOLOGIES)}")
    if not flags.config.is_file():
        parser.error(f"there is no file --config={flags.config}")
    start()

    results = []
    for n, model in zip(devices, shards, strict=True):
        config = load(flags.config)
        config.data.batch_size = flags.batch * n
        config.model.prototypes = flags.prototypes
        config.model.bn_groups = max(config.data.batch_size // 512, 1)
        config.mesh.model = model
        results.append({"devices": n, "model": model} | measure(config, n))
        print(line(results[-1]), flush=True)
    print(json.dumps({"config": str(flags.config), "batch": flags.batch, "steps": results}))


def load(path: Path) -> ConfigDict:
    """The configuration of a file."""
    sys.path.insert(0, str(Path.cwd()))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def measure(config: ConfigDict, count: int) -> dict:
    """The devices of the smallest slice that has this many."""
    name = next(name for size, name in TOPOLOGIES.items() if size >= count)
    compiled = plan.compile_step(config, plan.topology(name)[:count], IMAGES)
    messages = {" ".join(key): n for key, n in sorted(plan.collectives(compiled).items())}
    return plan.memory(compiled) | {"flops": plan.cost(compiled, "flops"), "collectives": messages}


def line(found: dict) -> str:
    """A row of the table."""
    mib = {k: f"{found[k] / 2**20:,.0f}" for k in ("argument_bytes", "temp_bytes")}
    sent = "; ".join(f"{k} {n / 2**20:.3g} MiB" for k, n in found["collectives"].items())
    return (
        f"{found['devices']} devices, model {found['model']}: state and batch "
        f"{mib['argument_bytes']} MiB, temporary {mib['temp_bytes']} MiB, "
        f"{found['flops'] / 1e12:.4g} TFLOP | {sent or 'no messages'}"
    )


if __name__ == "__main__":
    main()
