"""Batches that TensorFlow makes, timed, and with an eye on images that cannot be read."""

import atexit
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np

from swav_jax.data.batch import Batch, Canvases, EvalBatch
from swav_jax.data.sources.source import SizesDiffer, Source
from swav_jax.data.tf import tf
from swav_jax.data.unreadable import REPLACEMENTS, no_replacement, note, replacement_step

B = TypeVar("B", bound=Batch | Canvases | EvalBatch)
Notes = dict[str, np.ndarray]  # of each image: what was wanted, how many were tried, seconds


class Batches(Generic[B]):
    """An iterator of numpy batches that watches its source.

    Attributes:
      wait_seconds: how long the consumer waited for the last batch.
      stage_seconds: mean thread seconds an image of the last batch spent in `read` (reading and
        decoding) and `crop`. When `wait_seconds` is high, the larger one is the slow stage.
    """

    def __init__(
        self,
        batches: Iterator[tuple[B, Notes]],
        source: Source,
        max_bad_fraction: float,
        replacing: Callable[[int], Iterator[tuple[B, Notes]]] | None = None,
    ):
        """Iterates over batches.

        Args:
          batches: with their notes.
          source: of the images.
          max_bad_fraction: of them; more unreadable images stop the iterator.
          replacing: gives the batches after the first n in a slower way that replaces unreadable
            images, for when `batches` meets one; None if it meets none or leaves them.
        """
        self.wait_seconds = 0.0
        self.stage_seconds = {"read": 0.0, "crop": 0.0}
        self._batches = batches
        self._given = 0
        self._source = source
        self._max_bad_fraction = max_bad_fraction
        self._replaced = replacing is not None
        self._replacing = replacing

        _open.add(self)

    def close(self) -> None:
        """Stops reading ahead; an iterator that is still open when Python ends is closed then."""
        self._batches, self._replacing = iter(()), None

    def __iter__(self) -> Iterator[B]:
        return self

    def __next__(self) -> B:
        start = time.perf_counter()
        try:
            batch, notes = self._next()
        except tf.errors.InvalidArgumentError as error:
            if "to the batch" not in str(error):
                raise
            raise SizesDiffer(
                "the images differ in size: set a resize and a crop for evaluation"
            ) from error
        self.wait_seconds = time.perf_counter() - start
        seconds = notes["seconds"].mean(axis=0)
        self.stage_seconds = {"read": float(seconds[0]), "crop": float(seconds[1])}
        for wanted, tried in zip(notes["wanted"], notes["tried"], strict=True):
            if tried:
                self._note(int(wanted), int(tried))
        return batch

    def _next(self) -> tuple[B, Notes]:
        try:
            made = next(self._batches)
        except tf.errors.OpError:
            if not self._replacing:
                raise
            self._batches = self._replacing(self._given)
            self._replacing = None
            made = next(self._batches)
        self._given += 1
        return made

    def _note(self, wanted: int, tried: int) -> None:
        """Notes the unreadable images that were tried in place of `wanted`."""
        source, step = self._source, replacement_step(self._source.size)
        bad = [(wanted + k * step) % source.size for k in range(tried)]
        note(source, bad, self._max_bad_fraction)
        if self._replaced and tried == min(REPLACEMENTS, source.size):
            raise no_replacement(source)


_open: weakref.WeakSet[Batches] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Otherwise TensorFlow's threads that call Python wait for an interpreter that is gone."""
    for batches in list(_open):
        batches.close()
