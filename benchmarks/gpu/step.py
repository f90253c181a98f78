"""SwAV's training step of ResNet-50 on images that are on the card: speed, memory, compile time."""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from benchmarks.gpu.cards import PEAK_FLOPS, first_batch
from benchmarks.gpu.kernels import most_expensive, read_profiles
from configs import swav_imagenet_100ep
from swav_jax import sharding
from swav_jax.data.batch import Batch, batch_shapes
from swav_jax.data.sources.source import Source
from swav_jax.plan import compiled as plan
from swav_jax.run import Run, build
from swav_jax.runtime.xla import leave_out_missing_tpus
from swav_jax.step import compiled_step, draw_state, shardings, state_shapes

IMAGES = 1_281_167  # of ImageNet, which set the length of an epoch; none is read
COUNTED = 8  # images of the step whose operations are counted
USABLE = 0.95  # of the memory that XLA may take: it is divided, and leaves gaps


def measure(flags: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Figures with and then without all activations kept: `train.remat` none and block."""
    leave_out_missing_tpus()
    device = jax.devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if not (limit or flags.small):
        why = f"JAX runs on a {device.device_kind}, which does not say its memory: try --small"
        yield {"images_per_second": None, "why": why}
        return
    for remat in ("none", "block"):
        config = small_config() if flags.small else swav_imagenet_100ep.get_config()
        config.train.remat = remat
        batch = 8 if flags.small else first_batch(limit, remat)
        for figures in of_config(config, batch, limit, 0.2 if flags.small else 8):
            yield {f"remat_{remat}": figures}


def small_config() -> ConfigDict:
    """A network that compiles within seconds, by the same settings otherwise."""
    config = swav_imagenet_100ep.get_config()
    config.data.crops = ((2, 32, 0.14, 1.0), (2, 16, 0.05, 0.14))
    config.model.arch, config.model.stem = "resnet10_tiny", "strided"
    config.model.dtype = "float32"
    config.model.prototypes = 30
    config.augment.jitter = config.augment.grey = config.augment.blur = 0.0
    return config


def of_config(
    config: ConfigDict, batch: int, limit: int | None, seconds: float
) -> Iterator[dict[str, Any]]:
    """The figures of a configuration at the largest batch that fits, each time with more of them.

    Args:
      config: of the run.
      batch: images to begin with; halved until the program fits.
      limit: bytes that XLA may take, or None if it does not say.
      seconds: to take steps for.
    """
    tried = []
    while True:
        run = run_of(config, batch, jax.devices()[0])
        begin = time.monotonic()
        with jax.set_mesh(run.mesh):
            shapes = state_shapes(run)
            lowered = compiled_step(run, shapes).lower(shapes, placed_shapes(run))
            needed, compiled = None, None
            try:
                compiled = lowered.compile()
                needed = plan.memory(compiled)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
        tried.append({"batch": batch, "compile_seconds": time.monotonic() - begin, "bytes": needed})
        if batch == 1 or (needed and sum(needed.values()) <= USABLE * (limit or float("inf"))):
            break
        batch //= 2
    assert compiled
    flops = flops_of_image(config)
    figures = {
        "batch": batch,
        "compile_seconds": tried[-1]["compile_seconds"],
        "memory_bytes": sum(needed.values()) if needed else None,  # of this program alone
        "flops_per_image": flops,
        "tried": tried,
    }
    yield figures
    with jax.set_mesh(run.mesh):
        step = stepping(compiled, draw_state(run, shapes), synthetic(run))
        figures |= timed(step, batch, seconds)
        speed, device = figures["images_per_second"], run.mesh.devices.flat[0]
        peak = PEAK_FLOPS.get(device.device_kind)
        figures["flops_per_second"] = flops and flops * speed
        figures["share_of_peak"] = flops * speed / peak if flops and peak else None
        yield figures
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                for _ in range(3):
                    step()
            figures["kernels"] = most_expensive(read_profiles(Path(folder)))
        yield figures


def flops_of_image(config: ConfigDict) -> float | None:
    """Operations of a step for an image, by XLA's count before it chooses kernels.

    A program for CUDA has no such count, so it is of the step as the CPU gets it; None where JAX
    may not use the CPU.
    """
    try:
        cpu = jax.devices("cpu")[0]
    except RuntimeError:
        return None
    run = run_of(config, COUNTED, cpu)
    with jax.set_mesh(run.mesh):
        shapes = state_shapes(run)
        lowered = compiled_step(run, shapes).lower(shapes, placed_shapes(run))
    return (lowered.cost_analysis() or {}).get("flops", 0) / COUNTED or None


def run_of(config: ConfigDict, batch: int, device: jax.Device) -> Run:
    """What the configuration means on one device, with batches of this size."""
    config = config.copy_and_resolve_references()
    config.data.batch_size = batch
    config.data.cache = "none"  # a batch of crops comes ready
    config.model.bn_groups = max(batch // 512, 1)  # as the config has for 4096

    def read(_: Any) -> Any:
        raise AssertionError("images are made on the device")

    source = Source(IMAGES, (), str, read, may_fail=False, find_labels=lambda: None)
    return build(config, source=source, devices=[device])


def placed_shapes(run: Run) -> Batch:
    """Shapes of a batch on the run's device."""
    place = NamedSharding(run.mesh, sharding.SAMPLES)
    return jax.tree.map(
        lambda rows: jax.ShapeDtypeStruct(rows.shape, rows.dtype, sharding=place),
        batch_shapes(run.config.data.crops, run.sizes.batch_size),
    )


def synthetic(run: Run) -> Batch:
    """A batch of noise."""
    shapes = placed_shapes(run)

    def draw() -> Batch:
        numbers = jnp.arange(run.sizes.batch_size, dtype=jnp.int32)
        key = jax.random.key(0)
        crops = tuple(jax.random.bits(key, kind.shape, kind.dtype) for kind in shapes.crops)
        return Batch(crops, numbers, numbers)

    return jax.jit(draw, out_shardings=shardings(shapes))()


def stepping(compiled: Any, state: Any, batch: Batch) -> Callable[[], float]:
    """A function that takes the next step, waits for it, and gives its loss."""

    def step() -> float:
        nonlocal state
        state, metrics = compiled(state, batch)
        return float(metrics["loss"])

    return step


def timed(step: Callable[[], float], batch: int, seconds: float) -> dict[str, Any]:
    """Speed and last loss of as many steps as fit into the time, after two that warm up."""
    step(), step()
    steps, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds or not steps:
        loss = step()
        steps += 1
    return {"images_per_second": batch * steps / spent, "steps": steps, "loss": loss}
