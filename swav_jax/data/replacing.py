"""Images read by TensorFlow ops, each unreadable one replaced by the next of a fixed sequence."""

from collections.abc import Callable

import numpy as np

from swav_jax.data.sources.source import Source
from swav_jax.data.tf import tf
from swav_jax.data.unreadable import replacement_step


def read_or_replace(
    source: Source, wanted: tf.Tensor, candidates: int
) -> tuple[tuple[tf.Tensor, ...], tf.Tensor, tf.Tensor]:
    """Reads n images; where one fails, the next of its fixed sequence of replacements.

    TensorFlow has no `try`; a data set that skips elements with errors does the same. One such data
    set asks whether all n images can be read, and only if not each has one of its own.

    Returns:
      n uint8 [H, W, 3] images, their int64 [n] numbers (-1 and a black pixel if all failed), and
      how many candidates failed for each, int64 [n].
    """
    read = tf.function(
        source.read, input_signature=[tf.TensorSpec([], tf.int64)], autograph=False
    )  # traced once, however often it is called
    numbers = tf.unstack(wanted)

    def read_all(_: tf.Tensor = None) -> tuple[tuple[tf.Tensor, ...], tf.Tensor, tf.Tensor]:
        images: list[tf.Tensor] = []
        for number in numbers:
            with tf.control_dependencies(images[-1:]):  # one after the other: others run beside
                images.append(read(number))
        if source.may_fail:
            readable = tf.reduce_all([tf.size(image) > 0 for image in images])
            with tf.control_dependencies([tf.debugging.Assert(readable, [wanted])]):
                images = [tf.identity(image) for image in images]
        return tuple(images), wanted, tf.zeros_like(wanted)

    if not source.may_fail or not candidates:
        return read_all()

    def replaced(_: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], tf.Tensor, tf.Tensor]:
        each = [_first_readable(read, number, source.size, candidates) for number in numbers]
        images, shown, tried = zip(*each, strict=True)
        return images, tf.stack(shown), tf.stack(tried)

    once = tf.data.Dataset.range(1)
    whole = once.map(read_all).ignore_errors()
    return whole.concatenate(once.map(replaced)).take(1).get_single_element()


def _first_readable(
    read: Callable, wanted: tf.Tensor, size: int, candidates: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The first image that can be read of `wanted` and its replacements; see `read_or_replace`."""

    def candidate(k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        number = (wanted + k * replacement_step(size)) % size
        return read(number), number, k

    candidates = min(candidates, size)
    readable = tf.data.Dataset.range(candidates).map(candidate).ignore_errors()
    readable = readable.filter(lambda image, *_: tf.size(image) > 0)
    none = tf.data.Dataset.from_tensors(
        (tf.zeros([1, 1, 3], tf.uint8), np.int64(-1), np.int64(candidates))
    )
    return readable.concatenate(none).take(1).get_single_element()
