"""Data sets that fit into the host's memory: decoded once, and read from there."""

import dataclasses

import numpy as np

from swav_jax.data.passes import one_pass
from swav_jax.data.sizes import some_sizes
from swav_jax.data.sources.memory import open_arrays
from swav_jax.data.sources.source import Source
from swav_jax.runtime.progress import progress

TOGETHER = 256  # images of one size, which threads decode


def bytes_decoded(source: Source) -> int:
    """About how many bytes all images take, judged by some of them."""
    each = [3 * height * width for height, width in some_sizes(source)]
    return round(source.size * np.mean(each)) if each else 0


def in_memory(source: Source, max_bad_fraction: float, threads: int) -> Source:
    """The same images, read from memory; those that cannot be read are replaced as from files.

    Args:
      source: N images, of any sizes.
      max_bad_fraction: of N; more unreadable images stop it.
      threads: that decode; 0 takes one for each core.

    Raises:
      DataError: too many unreadable images.
    """
    unreadable, images = np.zeros((0, 0, 3), np.uint8), []
    together = TOGETHER if source.shape else 1  # those of several sizes are no array
    with progress("decoding the images", source.size) as now:
        for batch in one_pass(
            source, together, resize=0, crop=0, max_bad_fraction=max_bad_fraction, threads=threads
        ):
            rows = zip(batch.image, batch.valid, strict=True)
            images += [image if valid else unreadable for image, valid in rows]
            now(min(len(images), source.size))
    kept = open_arrays(images[: source.size])  # the last of them only fill up a batch
    return dataclasses.replace(
        source, read=kept.read, decode=kept.decode, may_fail=bool(source.unreadable)
    )
