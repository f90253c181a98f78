"""A summary of a run, printed when it starts: network, data, steps, devices, memory."""

import math
from collections import Counter

import jax
from jaxtyping import PyTree

from swav_jax.methods.contract import TrainState
from swav_jax.run import Run

MEMORIES = {"device": "on each device", "pinned_host": "in its host's memory"}  # JAX's names


def summary(run: Run, state: TrainState) -> str:
    """A title and a line each for parameters, data, steps, devices and state.

    Args:
      run: to describe.
      state: its arrays, or `step.state_shapes`.
    """
    config, sizes, devices = run.config, run.sizes, [*run.mesh.devices.flat]
    parts = [f"{name} {_elements(part):,}" for name, part in state.params.items()]
    crops = [f"{count} x {size}" for count, size, *_ in config.data.crops]
    kinds = Counter(device.device_kind for device in devices)
    processes = len({device.process_index for device in devices})
    mesh = [f"{axis} {size}" for axis, size in run.mesh.shape.items()]
    return "\n".join(
        [
            f"{config.method.name}, {config.model.arch} in {config.model.dtype}",
            f"  parameters  {_elements(state.params):,}: {', '.join(parts)}",
            f"  data        {sizes.size:,} images, each as {' + '.join(crops)} pixels",
            f"  steps       {sizes.total_steps:,} of {sizes.batch_size:,} images, "
            f"{sizes.steps_per_epoch:,} an epoch",
            f"  devices     {', '.join(f'{n} x {kind}' for kind, n in kinds.items())} of "
            f"{processes} process{'es' if processes > 1 else ''}, mesh {' x '.join(mesh)}",
            *(f"  state       {line}" for line in _state(state)),
        ]
    )


def _state(state: TrainState) -> list[str]:
    """The bytes of the state's parts, for each kind of memory."""
    found: dict[str, Counter[str]] = {}
    for part in ("params", "batch_stats", "opt_state", "extra"):
        for leaf in jax.tree.leaves(getattr(state, part)):
            shard = math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            memory = MEMORIES.get(leaf.sharding.memory_kind, MEMORIES["device"])
            found.setdefault(memory, Counter())[part] += shard
    return [
        f"{_bytes(sizes.total())} {memory}: "
        + ", ".join(f"{part} {_bytes(size)}" for part, size in sizes.items())
        for memory, sizes in found.items()
    ]


def _elements(tree: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _bytes(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
