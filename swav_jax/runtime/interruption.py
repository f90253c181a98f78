"""SIGTERM, Ctrl-C and preemption end a run after a step or batch, in all processes at once."""

import itertools
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

import jax
from absl import logging
from jax.experimental import multihost_utils

INTERRUPTED = 75  # exit code of a run that saved and can be resumed (sysexits' EX_TEMPFAIL)

# How often this process has asked whether to end. The processes end where all ask for the n-th
# time, n being the next one of the process that is ahead: so they count by one, and from 1.
QUESTIONS = itertools.count(1)


class Interrupted(SystemExit):
    """The run is to end: work that is begun again with the same command is given up."""

    def __init__(self) -> None:
        super().__init__(INTERRUPTED)


class Interruption:
    """Notices SIGTERM, Ctrl-C and preemption, so that the run can save before it ends.

    Used as a context manager around the training loop. A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self._noticed = self._agreed = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        # With several processes JAX itself listens to SIGTERM, and agrees on a common step.
        signals = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGINT, signal.SIGTERM]
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._notice) for s in signals}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() returned

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self._noticed = True
        signal.signal(number, signal.SIG_DFL)
        logging.warning("%s: saving, then ending", signal.Signals(number).name)
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)  # which JAX passes on to the other processes

    def due(self) -> bool:
        """Whether to end here; all processes ask at the same places and get the same answer."""
        if jax.process_count() == 1:
            return self._noticed
        if not self._agreed:
            self._agreed = multihost_utils.reached_preemption_sync_point(next(QUESTIONS))
        return self._agreed

    def check(self) -> None:
        """Raises Interrupted if the run is to end here; called as `due` is."""
        if self.due():
            raise Interrupted
