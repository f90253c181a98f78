"""Data sets that fit into the devices' memory: decoded once; a batch is then numbers and boxes.

Order, replacements and boxes are those of `batches.py` for the same seed and step.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Bool, Int64, UInt8

from swav_jax.data import index
from swav_jax.data.batch import CropSpecs, TrainBatches, Uncut
from swav_jax.data.boxes import crop_boxes
from swav_jax.data.passes import one_pass
from swav_jax.data.sources.source import SizesDiffer, Source
from swav_jax.data.unreadable import REPLACEMENTS, no_replacement, replacement_step
from swav_jax.runtime.progress import progress

BOXES_AT_ONCE = 1024  # images whose boxes are made together
AT_ONCE = 256  # images decoded between two looks at the progress


@dataclasses.dataclass(frozen=True)
class Cached:
    """A data set of N images in the devices' memory.

    Attributes:
      images: uint8 [M, P], the P = 3 H W values of each, spread over the devices; rows after N only
        fill them up. Of images [M, H, W, 3] a TPU copies all before it takes some.
      size: H and W of each.
      shown: the image that each number stands for: itself, or another if it cannot be read.
    """

    images: jax.Array
    size: tuple[int, int]
    shown: Int64[np.ndarray, " N"]


def decoded(
    source: Source,
    image_size: tuple[int, int],
    blocks: Sequence[range],
    max_bad_fraction: float,
    threads: int,
) -> tuple[UInt8[np.ndarray, "n H W 3"], Bool[np.ndarray, " N"]]:
    """Decodes blocks of a data set's images.

    Args:
      source: N images.
      image_size: H and W of all of them.
      blocks: n numbers; those beyond the data set give black images.
      max_bad_fraction: of N; more unreadable images stop it.
      threads: that decode; 0 takes one for each core.

    Returns:
      The images, and which of the N are found to be unreadable: black too.

    Raises:
      SizesDiffer: an image of another size.
      DataError: too many unreadable images.
    """
    of_one_size = dataclasses.replace(source, shape=image_size)
    images = np.zeros((sum(map(len, blocks)), *image_size, 3), np.uint8)
    bad, place = np.zeros(source.size, bool), 0
    with progress("decoding the images", len(images)) as now:
        for block in blocks:
            read = one_pass(
                of_one_size,
                AT_ONCE,
                resize=0,
                crop=0,
                first=block.start,
                max_bad_fraction=max_bad_fraction,
                threads=threads,
            )
            for first in range(block.start, min(block.stop, source.size), AT_ONCE):
                batch = next(read)
                rows = slice(min(AT_ONCE, block.stop - first, source.size - first))
                found, here = batch.image[rows], place + first - block.start
                if found.shape[1:3] != image_size:
                    raise SizesDiffer("the images differ in size")
                images[here : here + len(found)] = found
                bad[batch.index[rows][~batch.valid[rows]]] = True
                now(here + len(found))
            place += len(block)
    return images, bad


def replaced(bad: Bool[np.ndarray, " N"], source: Source) -> Int64[np.ndarray, " N"]:
    """The image shown for each number: as the host's pipeline replaces unreadable ones.

    Args:
      bad: which cannot be read.
      source: N images, of which these are known to be unreadable.

    Raises:
      DataError: nothing readable is found in place of one.
    """
    shown, step = np.arange(source.size), replacement_step(source.size)
    for _ in range(REPLACEMENTS):
        if not bad[shown].any():
            return shown
        shown = np.where(bad[shown], (shown + step) % source.size, shown)
    raise no_replacement(source)


class CachedBatches(TrainBatches):
    """Endless batches of a cached data set, starting at any global step.

    Args:
      cached: N images.

    The others are those of `batches.train_batches`.
    """

    def __init__(
        self,
        cached: Cached,
        crops: CropSpecs,
        batch_size: int,
        *,
        seed: int,
        first_step: int = 0,
        last_step: int | None = None,
        process: int = 0,
        processes: int = 1,
        order: index.OrderFn | None = None,
    ):
        self.wait_seconds, self.stage_seconds = 0.0, {}
        size = len(cached.shown)
        indices = index.batch_indices(order, size, batch_size, process, processes, seed=seed)
        steps = range(first_step, np.iinfo(np.int64).max if last_step is None else last_step)
        together = max(BOXES_AT_ONCE // (batch_size // processes), 1)
        self._batches = _batches(cached, crops, seed, indices, steps, together)

    def __next__(self) -> Uncut:
        start = time.perf_counter()
        batch = next(self._batches)
        self.wait_seconds = time.perf_counter() - start
        return batch


def _batches(
    cached: Cached, crops: CropSpecs, seed: int, indices: Callable, steps: range, together: int
) -> Iterator[Uncut]:
    """The batches of some steps; boxes are made for several `together`, which takes less time."""
    while steps:
        epochs, images, draws = map(np.array, zip(*map(indices, steps[:together]), strict=True))
        images = cached.shown[images]  # [steps, rows]
        sample = images + len(cached.shown) * draws
        epoch_seeds = np.broadcast_to((seed << 32) + epochs[:, None], sample.shape)
        seeds = np.stack([epoch_seeds, sample], axis=-1)
        boxes = crop_boxes(seeds.reshape(-1, 2), cached.size, crops)
        boxes = boxes.reshape(*sample.shape, -1, 4)
        numbers = images.astype(np.int32), sample.astype(np.int32)
        for batch in zip(boxes, *numbers, strict=True):
            yield Uncut(cached.images, *batch)
        steps = steps[together:]
