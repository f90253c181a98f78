"""What a batch is: numpy arrays on the host, jax arrays on devices, shapes in a plan."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int32, UInt8

# (number, pixels, smallest scale, largest scale) of each kind of crop; scales are shares of area.
CropSpecs = Sequence[tuple[int, int, float, float]]


class Batch(NamedTuple):
    """Crops to train on; B rows of all processes on devices, this process's on the host.

    Random numbers of a row are made from `sample`: index + N times the earlier draws of the image
    in this epoch, modulo 2^32.
    """

    crops: tuple[UInt8[Any, "B _n _S _S 3"], ...]  # one for each kind of crop
    index: Int32[Any, "B"]  # of the image in the data set
    sample: Int32[Any, "B"]


class EvalBatch(NamedTuple):
    """One crop of each image to evaluate; a row that is not valid only fills the batch up."""

    image: UInt8[Any, "B S S 3"]
    index: Int32[Any, "B"]
    valid: Bool[Any, "B"]


def batch_shapes(crops: CropSpecs, rows: int) -> Batch:
    """A `Batch` of `rows` images as `jax.ShapeDtypeStruct`s."""
    numbers = jax.ShapeDtypeStruct((rows,), jnp.int32)
    images = [
        jax.ShapeDtypeStruct((rows, count, size, size, 3), jnp.uint8) for count, size, *_ in crops
    ]
    return Batch(tuple(images), numbers, numbers)
