"""What a batch is: numpy arrays on the host, jax arrays on devices, shapes in a plan."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

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


class Uncut(NamedTuple):
    """Images to train on, and where the devices cut them; otherwise as `Batch`.

    The images are those of the whole data set, which stay on the devices; a batch takes B of them.
    """

    images: UInt8[Any, "M P"]  # as of `cached.Cached`
    boxes: Int32[Any, "B V 4"]  # top, left, height, width of each crop, all kinds in order
    index: Int32[Any, "B"]
    sample: Int32[Any, "B"]


class Canvases(NamedTuple):
    """The images of a batch, of several sizes, and where the devices cut them; as `Batch`."""

    images: UInt8[Any, "B C C 3"]  # each in the top left corner, see `canvases.py`
    boxes: Int32[Any, "B V 4"]  # as of `Uncut`
    index: Int32[Any, "B"]
    sample: Int32[Any, "B"]


TrainBatch = Batch | Uncut | Canvases


class TrainBatches(Iterator[TrainBatch], Protocol):
    """Training batches on the host, and how long they took.

    Attributes:
      wait_seconds: how long the consumer waited for the last batch.
      stage_seconds: mean seconds of an image in each stage of making it, by the stage's name.
    """

    wait_seconds: float
    stage_seconds: dict[str, float]


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
