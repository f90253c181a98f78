"""Batches of crops on the host: each image is decoded once and cut, exactly repeatable.

Every random number is a function of (seed, epoch, image, crop) and every batch one of its global
step, so the same seed gives the same bytes with any number of threads or processes, and after a
restart at any step. JPEG and PNG are decoded by TensorFlow ops outside Python's lock, and crops are
resized outside of it; Python itself runs once for a few images, and where a source needs it (other
formats, and the records of TFDS).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from swav_jax.data import index
from swav_jax.data.batch import Batch, Canvases, CropSpecs, EvalBatch
from swav_jax.data.batch_arrays import BatchArrays, Shape
from swav_jax.data.canvases import lay_out
from swav_jax.data.crops import boxes_of, central_crop, cut_all
from swav_jax.data.replacing import read_or_replace
from swav_jax.data.sizes import common_size
from swav_jax.data.sources.source import Source
from swav_jax.data.tf import as_written, python_function, tf
from swav_jax.data.unreadable import REPLACEMENTS
from swav_jax.data.watched import Batches, Notes
from swav_jax.runtime.machine import cores

READ_AHEAD = 2  # whole batches
# A thread reads and cuts some images at once, for which calls of Python cost less; but few large
# ones: until it has cut them it holds all of them.
TOGETHER = 16
LARGEST_CROPS_TOGETHER = 1 << 19  # pixels
PIXELS_TOGETHER = 1 << 23  # 25 MB


def train_batches(
    source: Source,
    crops: CropSpecs,
    batch_size: int,
    *,
    seed: int,
    first_step: int = 0,
    last_step: int | None = None,
    process: int = 0,
    processes: int = 1,
    order: index.OrderFn | None = None,
    max_bad_fraction: float = 0.01,
    threads: int = 0,
    canvas: int | None = None,
) -> Batches[Batch | Canvases]:
    """Endless multi-crop batches, starting at any global step.

    An unreadable image is replaced by another, always the same one, named in the log and counted.

    Args:
      source: N images.
      crops: `(count, size, min_scale, max_scale)` for each resolution; scales are shares of the
        image's area.
      batch_size: B, rows of a global batch over all processes.
      seed: of the order and of the crops.
      first_step: global step of the first batch; the epoch is `first_step // (N // B)`.
      last_step: global step before which to stop; None for never. Needed with an `order` that is
        only known up to an epoch's end, because batches are made ahead.
      process: this process's number.
      processes: how many processes share a batch.
      order: `epoch -> int [at least (N // B) * B]` image numbers, instead of a permutation drawn
        from `seed`. An image may occur several times, and gets different crops each time.
      max_bad_fraction: of N; more unreadable images on one process than this stop the iterator.
      threads: that decode and crop; 0 takes one for each core.
      canvas: side in pixels of canvases on which images are left to be cut by the devices.

    Returns:
      An iterator of numpy `Batch`es or `Canvases` of B / processes rows. `index` is that of the
      image shown, a replacement's too.

    Raises:
      ValueError: the sizes do not fit (see `index.py`).
      DataError: from the iterator, when too many images are unreadable.
    """
    rows = batch_size // processes
    together = _divisor(rows, images_together(source, max(size for _, size, *_ in crops)))
    last = np.iinfo(np.int64).max if last_step is None else last_step

    def made(first: int, candidates: int) -> Iterator[tuple[Batch | Canvases, Notes]]:
        # Not thread-safe, and the batches that these go on from may still be read ahead.
        indices = index.batch_indices(order, source.size, batch_size, process, processes, seed=seed)
        groups = tf.data.Dataset.range(first, last).flat_map(_groups(indices, seed, together))
        return _filled(source, crops, groups, first, rows, canvas, candidates, threads)

    # To be ready for unreadable images costs up to a quarter of the time; most data sets have none.
    return Batches(
        made(first_step, candidates=0),
        source,
        max_bad_fraction,
        lambda given: made(first_step + given, REPLACEMENTS),
    )


def _filled(
    source: Source,
    crops: CropSpecs,
    groups: tf.data.Dataset,
    first: int,
    rows: int,
    canvas: int | None,
    candidates: int,
    threads: int,
) -> Iterator[tuple[Batch | Canvases, Notes]]:
    """The batches of groups of images, in arrays that threads fill together; and notes of them.

    Args:
      source: of the images.
      crops: as of `train_batches`.
      groups: from `_groups`.
      first: global step of the first batch.
      rows: of a batch.
      canvas: as of `train_batches`.
      candidates: images that are tried in place of each, as `_read_and_cut` takes it.
      threads: as of `train_batches`.
    """
    shapes: list[Shape] = [(rows, count, size, size, 3) for count, size, *_ in crops]
    arrays = BatchArrays([(rows, canvas, canvas, 3)] if canvas else shapes)
    samples = _samples(source, crops, partial(_fill, arrays, crops, canvas), candidates)
    dataset = _in_parallel(groups, samples, rows, threads)

    def whole(step: int, rest: Any) -> tuple[Batch | Canvases, Notes]:
        (boxes, shown, sample), notes = rest
        filled = arrays.take(step)
        if canvas:
            return Canvases(filled[0], boxes, shown, sample), notes
        return Batch(tuple(filled), shown, sample), notes

    return map(whole, itertools.count(first), dataset.as_numpy_iterator())


def _groups(indices: Callable, seed: int, together: int) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """The function from a global step to this process's images of it, in groups.

    Args:
      indices: from `index.batch_indices`.
      seed: of the crops.
      together: n images in each group.

    Returns:
      A function that gives int64 [n, 4]: the seed of the epoch, the image, its earlier draws, and
      its row among all that this process has.
    """

    def columns(step: np.int64) -> np.ndarray:
        epoch, images, draws = indices(int(step))
        epoch_seeds = np.full_like(images, (seed << 32) + epoch)
        rows = step * len(images) + np.arange(len(images))
        return np.stack([epoch_seeds, images, draws, rows], axis=-1).reshape(-1, together, 4)

    @as_written
    def groups(step: tf.Tensor) -> tf.data.Dataset:
        found = python_function(columns, [step], tf.int64)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(found, [None, together, 4]))

    return groups


def _samples(source: Source, crops: CropSpecs, fill: Callable, candidates: int) -> Callable:
    """The function from a group of n images to what a batch has of them besides arrays of images.

    Args:
      source: of the images.
      crops: as of `train_batches`.
      fill: `_fill` of the first row, the boxes and the images.
      candidates: images that are tried in place of each, as `_read_and_cut` takes it.

    Returns:
      A function that gives boxes, int32 [n, V, 4], the images' numbers and samples; and notes.
    """

    @as_written
    def samples(group: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], dict[str, tf.Tensor]]:
        epoch_seeds, wanted, draws, rows = tf.unstack(group, axis=-1)

        def cut(images: Sequence[tf.Tensor], shown: tf.Tensor) -> tf.Tensor:
            seeds = tf.stack([epoch_seeds, shown + source.size * draws], axis=-1)
            boxes = boxes_of(images, crops, seeds)
            # One call of Python for all of them
            filled = python_function(fill, [rows[0], boxes, *images], tf.int32)
            return tf.ensure_shape(filled, boxes.shape)

        boxes, shown, notes = _read_and_cut(source, wanted, cut, candidates)
        numbers = tf.cast(shown, tf.int32), tf.cast(shown + source.size * draws, tf.int32)
        return (boxes, *numbers), notes

    return samples


def _fill(
    arrays: BatchArrays,
    crops: CropSpecs,
    canvas: int | None,
    row: np.int64,
    boxes: np.ndarray,
    *images: np.ndarray,
) -> np.ndarray:
    """Cuts images, or lays them onto canvases, in their rows of the batch's arrays.

    Args:
      arrays: of crops or canvases.
      crops: as of `train_batches`.
      canvas: as of `train_batches`.
      row: of the first image, among all that this process has.
      boxes: of the crops, int32 [n, V, 4].
      images: n of them, of any sizes.

    Returns:
      The boxes, on the canvases if there are any.
    """
    mine = arrays.rows(int(row), len(images))
    if canvas:
        return lay_out(images, boxes, crops, *mine)
    cut_all(images, boxes, mine)
    return boxes.copy()  # a function that TensorFlow calls must not return what it was given


def images_together(source: Source, largest_crop: int) -> int:
    """How many images a thread holds decoded at once; about PIXELS_TOGETHER, or one image.

    Args:
      source: of the images, by whose mean size it is judged.
      largest_crop: pixels of a side of the largest crop.
    """
    area = math.prod(source.shape) if source.shape else source.area
    by_size = PIXELS_TOGETHER // max(round(area), 1)
    return max(1, min(TOGETHER, LARGEST_CROPS_TOGETHER // largest_crop**2, by_size))


def eval_batches(
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
) -> Batches[EvalBatch]:
    """One pass over the images by TensorFlow; `passes.one_pass` calls it where that is needed.

    Arguments, batches and errors are those of `one_pass`; here `threads` decode the images too.
    """
    if 0 < resize < crop:
        raise ValueError(f"a crop of {crop} pixels does not fit images resized to {resize}")
    rows = index.process_rows(batch_size, process, processes)
    # In place of an unreadable image stands one that the others can be stacked with.
    height, width = source.shape or (None if resize else common_size(source)) or (1, 1)

    @as_written
    def samples(positions: tf.Tensor) -> tuple[EvalBatch, dict[str, tf.Tensor]]:
        wanted = tf.minimum(positions, source.size - 1)

        def cut(images: Sequence[tf.Tensor], shown: tf.Tensor) -> tf.Tensor:
            black = tf.zeros([height, width, 3], tf.uint8)
            numbers = tf.unstack(shown, len(images))
            images = [
                tf.cond(number < 0, lambda: black, lambda image=image: image)
                for image, number in zip(images, numbers, strict=True)
            ]
            return tf.stack([central_crop(image, resize, crop) for image in images])

        image, shown, notes = _read_and_cut(source, wanted, cut, candidates=1)
        valid = (positions < source.size) & (shown >= 0)
        return EvalBatch(image=image, index=tf.cast(wanted, tf.int32), valid=valid), notes

    @as_written
    def positions(batch: tf.Tensor) -> tf.data.Dataset:
        begin = first + batch * batch_size
        return tf.data.Dataset.range(begin + rows.start, begin + rows.stop).batch(1, True)

    batches = tf.data.Dataset.range(-(-(source.size - first) // batch_size))
    made = _in_parallel(batches.flat_map(positions), samples, batch_size // processes, threads)
    return Batches(made.as_numpy_iterator(), source, max_bad_fraction)


def _divisor(number: int, most: int) -> int:
    """The greatest divisor of `number` that is at most `most`."""
    return max(n for n in range(1, most + 1) if number % n == 0)


def _in_parallel(
    groups: tf.data.Dataset, samples: Callable, batch_size: int, threads: int
) -> tf.data.Dataset:
    """Batches of `samples(group)`, made by a fixed number of threads, in the groups' order.

    Args:
      groups: int64 [n, ...]; n divides the batch.
      samples: gives n samples for each.
      batch_size: of the batches.
      threads: 0 takes one for each core.
    """
    threads = threads or cores()
    together = groups.element_spec.shape[0]
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1  # images are parallel already
    some = groups.map(samples, num_parallel_calls=threads)

    @as_written
    def merged(*parts: Any) -> Any:
        return tf.nest.map_structure(
            lambda x: tf.reshape(x, tf.concat([[batch_size], tf.shape(x)[2:]], axis=0)), parts
        )

    batches = some.batch(batch_size // together, drop_remainder=True).map(merged)
    return batches.prefetch(READ_AHEAD).with_options(options)


def _read_and_cut(
    source: Source, wanted: tf.Tensor, cut: Callable, candidates: int
) -> tuple[Any, tf.Tensor, dict[str, tf.Tensor]]:
    """`cut(images, numbers)` of n images or their replacements, the numbers, and notes of them.

    Args:
      source: of the images.
      wanted: int64 [n].
      cut: as above.
      candidates: images that are tried in place of each; 0 raises an error where one is unreadable.
    """
    begin = tf.timestamp()
    with tf.control_dependencies([begin]):
        images, shown, tried = read_or_replace(source, wanted, candidates)
    with tf.control_dependencies(images):
        decoded = tf.timestamp()
    with tf.control_dependencies([decoded]):
        views = cut(images, shown)
    with tf.control_dependencies(tf.nest.flatten(views)):
        end = tf.timestamp()
    seconds = tf.stack([decoded - begin, end - decoded]) / len(images)
    notes = {"wanted": wanted, "tried": tried, "seconds": tf.tile(seconds[None], [len(images), 1])}
    return views, shown, notes
