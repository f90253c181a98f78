"""A profiler's trace of a few steps, for xprof."""

from pathlib import Path
from types import TracebackType
from typing import Self

import jax
from absl import logging
from jaxtyping import PyTree


def steps(text: str) -> range:
    """The steps that "10:15" stands for, 10 to 14; "" is none.

    Raises:
      ValueError: anything else.
    """
    if not text:
        return range(0)
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ValueError(f"{text!r} is not <first step>:<step after the last>, like 10:15")
    return range(int(first), int(end))


class Trace:
    """Writes what happens during some steps into a folder; nothing for no steps.

    Used as a context manager around the training loop, so that an error also ends the trace.
    """

    def __init__(self, steps: range, folder: Path) -> None:
        self._steps, self._folder, self._on = steps, folder, False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._end()

    def before(self, step: int) -> None:
        """Starts the trace if the step is the first of those asked for that is still to come."""
        if step in self._steps and not self._on:
            self._on = True
            jax.profiler.start_trace(self._folder)

    def after(self, step: int, results: PyTree) -> None:
        """Ends the trace behind the last step, once the device has done it."""
        if self._on and step + 1 == self._steps.stop:
            jax.block_until_ready(results)
            self._end()

    def _end(self) -> None:
        if self._on:
            self._on = False
            jax.profiler.stop_trace()
            logging.info("trace written; open it with: xprof --logdir=%s", self._folder)
