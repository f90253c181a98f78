"""Forward and backward pass of the networks, against the same networks by XLA's defaults.

    python -m benchmarks.step [--arch resnet18_thin] [--stem cifar] [--crops 2x32,2x20]
                              [--batch 256] [--steps 5]

Ours is what training runs: the convolutions of `swav_jax.models.conv` and, on a CPU, the choice of
XLA's convolution library that `swav_jax.runtime.xla` makes. The peer has `lax.conv_general_dilated`
everywhere and XLA's defaults. Both run in turn, so that whatever else the machine does slows both;
the fastest step of each counts. Compilation is not timed. The last line is JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from swav_jax.models import conv as conv_module
from swav_jax.models.backbones import backbone
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.runtime.xla import KNOWS_CPU_FLAG, leave_out_missing_tpus

# What `xla.CPU_FLAG` does to a process, for one program: YNNPACK for matrix products alone.
EIGEN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def main() -> None:
    """Times both and prints images a second."""
    flags = parse_flags()
    leave_out_missing_tpus()
    ours = compiled_step(flags, compiler_options())
    with mock.patch.object(conv_module, "conv", conv_module.plain):
        peer = compiled_step(flags, {})
    rounds = [(timed(ours), timed(peer)) for _ in range(flags.steps)]
    seconds, peer_seconds = (min(times) for times in zip(*rounds, strict=True))
    speed, peer_speed = flags.batch / seconds, flags.batch / peer_seconds
    name = f"{flags.arch} {flags.crops} batch {flags.batch}"
    print(f"{name}: {speed:.3g} images/s, peer {peer_speed:.3g}, ratio {speed / peer_speed:.2f}")
    result = {"images_per_second": speed, "peer_images_per_second": peer_speed}
    result |= {"ratio": speed / peer_speed, "device": jax.devices()[0].device_kind}
    print(json.dumps(vars(flags) | result))


def parse_flags() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet18_thin")
    parser.add_argument("--stem", default="cifar")
    parser.add_argument("--crops", default="2x32,2x20", help="count x pixels, ...")
    parser.add_argument("--batch", type=int, default=256, help="images")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each")
    return parser.parse_args()


def compiler_options() -> dict[str, str]:
    """Options of our program, where XLA knows them."""
    known = jaxlib.__version__.startswith(KNOWS_CPU_FLAG)
    return EIGEN if known and jax.default_backend() == "cpu" else {}


def compiled_step(flags: argparse.Namespace, options: dict[str, str]) -> Callable[[], object]:
    """One value and gradient of a loss that depends on every embedding."""
    encoder = Encoder(backbone(flags.arch, stem=flags.stem), ProjectionHead(hidden=128, dim=128))
    rng = np.random.default_rng(0)
    sizes = [tuple(map(int, crop.split("x"))) for crop in flags.crops.split(",")]
    crops = [
        jnp.asarray(rng.normal(size=(flags.batch, count, side, side, 3)), jnp.float32)
        for count, side in sizes
    ]
    first = [crop[:1] for crop in crops]
    variables = jax.jit(lambda: encoder.init(jax.random.key(0), first, train=False))()
    target = jnp.asarray(rng.normal(size=(flags.batch, sum(n for n, _ in sizes), 128)), jnp.float32)

    def loss(params: dict, batch_stats: dict) -> tuple[jax.Array, dict]:
        variables = {"params": params, "batch_stats": batch_stats}
        z, updates = encoder.apply(variables, crops, train=True, mutable=["batch_stats"])
        return (z * target).sum(), updates

    step = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=options)
    compiled = step.lower(variables["params"], variables["batch_stats"]).compile()
    return lambda: compiled(variables["params"], variables["batch_stats"])


def timed(step: Callable[[], object]) -> float:
    """Seconds of one step."""
    start = time.perf_counter()
    jax.block_until_ready(step())
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
