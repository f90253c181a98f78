"""One pass over a data set in order, each image as evaluations see it.

TensorFlow is imported where images must be resized or come as files. Images that are only cut, such
as CIFAR's and the digits, are decoded by Pillow: the same pixels.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int, UInt8

from swav_jax.data import index
from swav_jax.data.batch import EvalBatch
from swav_jax.data.sources.source import SizesDiffer, Source
from swav_jax.data.unreadable import note
from swav_jax.runtime.machine import cores

# Pixels of an image; smaller ones are decoded by one thread, because most of the time is Python's,
# which one thread has at a time. Two threads on 2 cores give 0.9 times the images of 32 pixels, and
# of 96 and 224 pixels 1.1 and 1.4 times the JPEGs, 1.5 and 1.7 times the PNGs.
WORTH_THREADS = 96 * 96


def one_pass(
    source: Source,
    batch_size: int,
    *,
    resize: int,
    crop: int,
    first: int = 0,
    process: int = 0,
    processes: int = 1,
    max_bad_fraction: float = 0.01,
    threads: int = 0,
) -> Iterator[EvalBatch]:
    """The images in order, each resized and cut from its centre, as torchvision does.

    Args:
      source: N images.
      batch_size: B, rows of a global batch over all processes.
      resize: pixels of the shorter side; 0 leaves the images as they are.
      crop: S, pixels of the central square; 0 is `resize`, or the whole image without `resize`
        (then all images must have one size).
      first: number of the image to begin with.
      process: this process's number.
      processes: how many processes share a batch; each gets the same number of batches.
      max_bad_fraction: of N; more unreadable images on one process than this stop the iterator.
      threads: that decode and resize images; 0 takes one for each core.

    Returns:
      An iterator of numpy `EvalBatch`es of B / processes rows. The rows that fill up the last batch
      are copies of the last image, those of an unreadable image are black; neither is `valid`.

    Raises:
      ValueError: the batch does not divide among the processes, or resize < crop.
      DataError: from the iterator: too many unreadable images, or differing sizes.
    """
    if 0 < resize < crop:
        raise ValueError(f"a crop of {crop} pixels does not fit images resized to {resize}")
    window = _window(source.shape, resize, crop) if source.decode else None
    if window is None:
        from swav_jax.data.batches import eval_batches

        return eval_batches(
            source,
            batch_size,
            resize=resize,
            crop=crop,
            first=first,
            process=process,
            processes=processes,
            max_bad_fraction=max_bad_fraction,
            threads=threads,
        )
    assert source.shape  # it has a window
    threads = (threads or cores()) if math.prod(source.shape) >= WORTH_THREADS else 1
    rows = index.process_rows(batch_size, process, processes)
    positions = np.arange(rows.start, rows.stop)
    return (
        _decoded(source, begin + positions, window, max_bad_fraction, threads)
        for begin in range(first, source.size, batch_size)
    )


def _window(shape: tuple[int, int] | None, resize: int, crop: int) -> tuple[slice, slice] | None:
    """Rows and columns that evaluation shows of images of one size; None if it resizes them."""
    if not shape:
        return None
    size = crop or resize
    if not size:
        return slice(shape[0]), slice(shape[1])
    if resize not in (0, min(shape)) or size > min(shape):
        return None
    top, left = (round((pixels - size) / 2) for pixels in shape)
    return slice(top, top + size), slice(left, left + size)


def _decoded(
    source: Source,
    positions: np.ndarray,
    window: tuple[slice, slice],
    max_bad_fraction: float,
    threads: int,
) -> EvalBatch:
    """The windows of the images at these positions; positions beyond the last are filled up."""
    numbers = np.minimum(positions, source.size - 1)
    images = _images(source, numbers, threads)
    readable = np.array([image is not None for image in images])
    note(source, numbers[~readable].tolist(), max_bad_fraction)
    assert source.shape  # it has a window
    black = np.zeros((*source.shape, 3), np.uint8)
    shown = [black if image is None else image for image in images]
    if any(image.shape != black.shape for image in shown):
        raise SizesDiffer("the images differ in size: set a resize and a crop for evaluation")
    return EvalBatch(
        image=np.stack(shown)[:, *window],
        index=numbers.astype(np.int32),
        valid=readable & (positions < source.size),
    )


def _images(
    source: Source, numbers: Int[np.ndarray, " n"], threads: int
) -> list[UInt8[np.ndarray, "H W 3"] | None]:
    """Some images in their order; None for those that cannot be read."""

    def decoded(numbers: Int[np.ndarray, " m"]) -> list[UInt8[np.ndarray, "H W 3"] | None]:
        return [_decode_or_none(source, int(number)) for number in numbers]

    if threads == 1:
        return decoded(numbers)
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(decoded, np.array_split(numbers, threads))
        return [image for part in parts for image in part]


def _decode_or_none(source: Source, number: int) -> UInt8[np.ndarray, "H W 3"] | None:
    assert source.decode  # `one_pass` has checked
    try:
        image = source.decode(number)
    except Exception:  # Pillow's decoders raise nearly anything on damaged files
        return None
    return image if image.size else None
