"""How far long work has come: a bar on a terminal, a line now and then elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from absl import logging
from tqdm import tqdm

SECONDS = 30.0  # between two lines


def shows_bars() -> bool:
    """Whether standard error is a terminal of known size; tqdm draws nothing without one."""
    return sys.stderr.isatty() and 0 not in os.get_terminal_size(sys.stderr.fileno())


@contextmanager
def progress(what: str, total: int, done: int = 0, unit: str = "image") -> Iterator[Callable]:
    """Shows the progress of some work, and yields a function of how much of it is done.

    Args:
      what: the work, in a few words.
      total: of it.
      done: before.
      unit: of `total` and `done`.
    """
    begin, said = (time.monotonic(), done), time.monotonic()
    with tqdm(
        total=total,
        initial=done,
        unit=unit,
        desc=what,
        dynamic_ncols=True,
        leave=False,
        disable=not shows_bars(),
    ) as bar:

        def now(done: int) -> None:
            nonlocal said
            bar.update(done - bar.n)
            if bar.disable and time.monotonic() - said >= SECONDS:
                said = time.monotonic()
                rate = (done - begin[1]) / (said - begin[0])
                logging.info("%s: %d of %d %ss, %.4g a second", what, done, total, unit, rate)

        yield now
