"""A memory of one row for each image of the data set, and of the cluster each image is in.

Row n belongs to image n, so a batch's rows are scattered by `index`, in whatever order images are
drawn. A row that was never written is zero. Under `jax.set_mesh` the images are spread over devices
and each device scatters and looks up in its own block; only batches travel. A bank may be in the
memory of the devices' machines, whose CPUs then do the scattering.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from swav_jax.sharding import MEMORY, SAMPLES, WHOLE, on_blocks, on_devices, run_where_stored

Axes = Sequence[str]

# Rows of a bank come in these multiples, so that its shape does not depend on the devices: the
# first is divisible by every number of devices up to 6 and by 8, 10, 12, 15, 16, 20, 24, 32, 40,
# 48, 60, 64, 80, 96, 120, 128, 160, 192, 240, 256; the second also by 512, 1024, 2048 and 4096.
MULTIPLE = 3840
LARGE_MULTIPLE = 16 * MULTIPLE
LARGE = 1_000_000  # images; from here on the second is less than a fifteenth of them


def empty(crops: int, clusterings: int, size: int, dim: int, dtype: DTypeLike) -> dict[str, Array]:
    """An empty memory of `size` images.

    Returns:
      bank: zeros [crops, N_pad, dim], one bank for each crop that is remembered.
      assignments: int32 [clusterings, N_pad], all -1.
    """
    rows = padded(size)
    return {
        "bank": jnp.zeros((crops, rows, dim), dtype),
        "assignments": jnp.full((clusterings, rows), -1, jnp.int32),
    }


def padded(size: int) -> int:
    """The rows N_pad of a bank for `size` images."""
    multiple = _multiple(size)
    return -(-size // multiple) * multiple


def check_devices(devices: int, size: int) -> None:
    """Refuses a number of data-parallel devices that a bank of `size` images cannot be spread over.

    Raises:
      ValueError: `devices` does not divide the multiple that the bank's rows come in.
    """
    multiple = _multiple(size)
    if multiple % devices:
        fitting = [n for n in range(1, devices) if multiple % n == 0]
        raise ValueError(
            f"A memory of {size} images cannot be spread over {devices} data-parallel devices, "
            f"only over a divisor of {multiple}: use {fitting[-1]} of them."
        )


def _multiple(size: int) -> int:
    return LARGE_MULTIPLE if size >= LARGE else MULTIPLE


def write(
    bank: Float[Array, "A N D"], index: Int[Array, "B"], rows: Float[Array, "B A D"]
) -> Float[Array, "A N D"]:
    """The bank with a batch's rows at the places of its images; places beyond N are dropped."""

    def place(bank: Array, index: Array, rows: Array, sample_axes: Axes, **_: Axes) -> Array:
        index, rows = (lax.all_gather(x, sample_axes, tiled=True) for x in (index, rows))
        rows = jnp.swapaxes(rows, 0, 1).astype(bank.dtype)
        return run_where_stored(scatter, bank, _here(index, bank.shape[1], sample_axes), rows)

    def scatter(bank: Array, places: Array, rows: Array) -> Array:
        return bank.at[:, places].set(rows, mode="drop")

    return on_blocks(
        place, (bank, index, rows), in_specs=(MEMORY, SAMPLES, SAMPLES), out_specs=MEMORY
    )


@partial(jax.jit, static_argnums=1)
def read(bank: Float[Array, "A N D"], crop: int) -> Float[Array, "N D"]:
    """All rows of one crop, on the devices."""
    return on_devices(bank[crop])


def lookup(assignments: Int[Array, "H N"], index: Int[Array, "B"]) -> Int[Array, "H B"]:
    """The assignments of a batch of images, on every device."""

    def find(assignments: Array, index: Array, sample_axes: Axes, **_: Axes) -> Array:
        index = lax.all_gather(index, sample_axes, tiled=True)
        places = _here(index, assignments.shape[1], sample_axes)
        found = assignments.at[:, places].get(mode="fill", fill_value=0)
        return lax.psum(found, sample_axes)  # one device has it, the others say 0

    return on_blocks(find, (assignments, index), in_specs=(MEMORY, SAMPLES), out_specs=WHOLE)


@jax.jit
def written(bank: Float[Array, "*A N D"]) -> Bool[Array, "*A N"]:
    """Which rows were ever written: unit-length embeddings are never zero."""
    return jnp.any(bank != 0, axis=-1)


def _here(index: Array, block: int, axes: Axes) -> Array:
    """Places within this device's block; `block`, which is none, for the images of others."""
    local = index - lax.axis_index(axes) * block
    return jnp.where((local >= 0) & (local < block), local, block)
