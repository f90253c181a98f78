"""How arrays are laid out over devices: the mesh, and rules by the names of leaves.

Two axes: `data` spreads images, `model` spreads prototypes and, if asked, other large parameters.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import compute_on
from jax.sharding import AxisType, Mesh, NamedSharding, Sharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Int, PyTree, Shaped

from swav_jax.trees import map_named

SAMPLES = P("data")  # [B, ...]
SCORES = P("data", "model")  # [B, K]
MEMORY = P(None, "data")  # [A, N, ...], rows of all images
WHOLE = P()

# JAX 0.10 has it as `compute_on2`, beside an older function of another form.
_compute_on: Callable[..., Any] = getattr(compute_on, "compute_on2", compute_on.compute_on)

# Where a bank may be, by `mesh.bank_memory`, and JAX's name for that memory.
BANK_MEMORIES = {"device": None, "host": "pinned_host"}

# The first pattern found in a leaf's path decides; every other leaf is whole on every device.
RULES: tuple[tuple[str, P], ...] = (
    (r"(^|/)prototypes/", P("model")),  # [K, D], and their momentum
    (r"^extra/(queue|bank|assignments)", MEMORY),  # embeddings remembered, clusters of images
)


def make_mesh(model: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh over all devices, `model` of them along the prototypes.

    Raises:
      ValueError: if the devices cannot be divided into rows of `model`, each within a process.
    """
    devices = jax.devices() if devices is None else devices
    if len(devices) % model:
        raise ValueError(f"mesh.model {model} does not divide the {len(devices)} devices.")
    shape = (len(devices) // model, model)
    mesh = jax.make_mesh(shape, ("data", "model"), (AxisType.Auto,) * 2, devices=devices)
    for row in mesh.devices:
        if len({device.process_index for device in row}) > 1:
            raise ValueError(
                f"mesh.model {model} spreads prototypes over several processes, but an image's "
                "scores must stay within one: use a divisor of the devices of a process."
            )
    return mesh


def state_shardings(
    mesh: Mesh, shapes: PyTree, large: int = 0, bank_memory: str = "device"
) -> PyTree:
    """The sharding of each leaf of a train state.

    Args:
      mesh: from `make_mesh`.
      shapes: the state's arrays or their shapes.
      large: parameters of at least that many elements are spread over `model`; 0 for none.
      bank_memory: "host" for a bank in the memory of the devices' hosts.
    """

    def place(name: str, leaf: Any) -> NamedSharding:
        spec = next((spec for pattern, spec in RULES if re.search(pattern, name)), P())
        if not spec and large and leaf.size >= large:
            spec = P(*(None,) * (leaf.ndim - 1), "model")
        memory = BANK_MEMORIES[bank_memory] if name == "extra/bank" else None
        return NamedSharding(mesh, _fitting(spec, leaf.shape, mesh), memory_kind=memory)

    return map_named(place, shapes)


def unused_settings(places: PyTree, model: int, bank_memory: str) -> list[str]:
    """Warnings about settings that have no effect on any of the state's shardings, `places`."""
    leaves, warnings = jax.tree.leaves(places), []
    if model > 1 and not any("model" in place.spec for place in leaves):
        warnings.append(
            f"mesh.model {model} spreads nothing of this method: groups of {model} devices do the "
            "same work. Set it to 1, or mesh.spread_parameters_above."
        )
    if bank_memory == "host" and not any(place.memory_kind == "pinned_host" for place in leaves):
        warnings.append("mesh.bank_memory has no effect: this method has no bank.")
    return warnings


def _fitting(spec: P, shape: tuple[int, ...], mesh: Mesh) -> P:
    """The spec, without the axes that do not divide their dimension."""
    if len(spec) > len(shape):
        return P()
    return P(
        *(a if a and n % mesh.shape[a] == 0 else None for a, n in zip(spec, shape, strict=False))
    )


def anywhere() -> Sharding:
    """Whole arrays on every device of the current mesh; on this process's first without one."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return SingleDeviceSharding(jax.local_devices()[0])
    return NamedSharding(mesh, WHOLE)


def put_batch(mesh: Mesh, batch: PyTree) -> PyTree:
    """Global arrays [B, ...] from this process's rows of a batch; those on the devices stay."""
    samples, processes = NamedSharding(mesh, SAMPLES), jax.process_count()

    def put(rows: np.ndarray | jax.Array) -> jax.Array:
        if isinstance(rows, jax.Array):
            return rows
        whole = (processes * rows.shape[0], *rows.shape[1:])
        return jax.make_array_from_process_local_data(samples, rows, whole)

    return jax.tree.map(put, batch)


def padded_rows(mesh: Mesh, rows: int) -> int:
    """The least number from `rows` on that divides among the devices along `data`."""
    return -(-rows // mesh.shape["data"]) * mesh.shape["data"]


def rows_here(mesh: Mesh, rows: int) -> list[range]:
    """The blocks of rows that `put_batch` takes from this process, in order, of so many.

    Neighbours are one block.
    """
    held = NamedSharding(mesh, SAMPLES).addressable_devices_indices_map((rows,))
    blocks: list[range] = []
    for begin, end in sorted({index[0].indices(rows)[:2] for index in held.values() if index}):
        if blocks and blocks[-1].stop == begin:
            begin = blocks.pop().start
        blocks.append(range(begin, end))
    return blocks


def take(rows: Shaped[Array, "M ..."], index: Int[Array, "B"]) -> Shaped[Array, "B ..."]:
    """Inside `jax.jit`: some of the rows that are spread over `data`, each where it is wanted.

    Each device sends to every other what that one wants, zeros for rows that it does not have. If
    they were summed on their way, a TPU would send 32 bits for an integer of 8.
    """

    def take_here(rows: Array, index: Array, *, sample_axes: Any, prototype_axes: Any) -> Array:
        if not sample_axes:
            return rows[index]
        wanted = jax.lax.all_gather(index, sample_axes, tiled=True)
        place = wanted - jax.lax.axis_index(sample_axes) * len(rows)
        given = rows.at[jnp.where(place < 0, len(rows), place)].get(mode="fill", fill_value=0)
        got = jax.lax.all_to_all(given, sample_axes, 0, 0, tiled=True)
        return got.reshape(-1, *index.shape, *rows.shape[1:]).sum(0, dtype=rows.dtype)

    return on_blocks(take_here, (rows, index), in_specs=(SAMPLES, SAMPLES), out_specs=SAMPLES)


def gather(x: PyTree) -> PyTree:
    """Inside `jax.jit`: whole arrays on every device, so that every process can read them."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, WHOLE), x)


def on_devices(x: jax.Array) -> jax.Array:
    """Inside `jax.jit`: an array in the devices' memory, wherever it was."""
    return jax.device_put(x, jax.memory.Space.Device)


def run_where_stored(function: Callable[..., Any], x: jax.Array, *others: jax.Array) -> Any:
    """Inside `jax.jit`: `function(x, *others)`, on the host if x is in its memory.

    In that case the others are moved, and x is not.
    """
    if jax.typeof(x).memory_space != jax.memory.Space.Host:
        return function(x, *others)
    host = jax.memory.Space.Host
    by_host = _compute_on(function, compute_type="device_host", out_memory_spaces=host)
    return by_host(x, *jax.device_put(others, host))


def zeros(shape: tuple[int, ...], dtype: DTypeLike, spec: P) -> jax.Array:
    """A global array of zeros, spread over the current mesh; no device ever holds all of it."""
    mesh = jax.sharding.get_mesh()
    place = None if mesh.empty else NamedSharding(mesh, _fitting(spec, shape, mesh))
    return jnp.zeros(shape, dtype, device=place)


def fetch(x: PyTree) -> PyTree:
    """Copies of global arrays as NumPy arrays, whole in every process."""
    return jax.device_get(jax.jit(gather)(x))


def on_blocks(
    function: Callable[..., Any], arrays: tuple, *, in_specs: tuple, out_specs: PyTree
) -> Any:
    """Calls a function on each device's blocks of the arrays, by `jax.shard_map`.

    The function also gets the mesh axes to sum over, as `sample_axes` and `prototype_axes`. Without
    a mesh it is called once, on the arrays as they are.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return function(*arrays, sample_axes=(), prototype_axes=())

    def on_block(*blocks: jax.Array) -> Any:
        return function(*blocks, sample_axes=("data",), prototype_axes=("model",))

    return jax.shard_map(on_block, in_specs=in_specs, out_specs=out_specs)(*arrays)
