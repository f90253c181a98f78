"""Sizes of a data set's images, judged by some of them, evenly spread."""

import contextlib
from collections.abc import Iterator

from swav_jax.data.sources.pixels import evenly
from swav_jax.data.sources.source import Source


def some_sizes(source: Source) -> Iterator[tuple[int, int]]:
    """H and W of up to 32 readable images; of one, where the source says that all are alike."""
    if source.shape:
        yield source.shape
        return
    from swav_jax.data.tf import tf

    for number in evenly(source.size):
        height = width = 0
        with contextlib.suppress(tf.errors.OpError):  # it will be named when its turn comes
            height, width, _ = source.read(tf.constant(number, tf.int64)).shape
        if height:
            yield height, width


def common_size(source: Source) -> tuple[int, int] | None:
    """H and W that all of these images have; others may still differ then."""
    sizes = some_sizes(source)
    first = next(sizes, None)
    return first if all(size == first for size in sizes) else None
