"""SIGTERM, Ctrl-C and preemption end a run after the step it is in, in all processes at once."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

import jax
from absl import logging
from jax.experimental import multihost_utils

INTERRUPTED = 75  # exit code of a run that saved and can be resumed (sysexits' EX_TEMPFAIL)


class Interruption:
    """Notices SIGTERM, Ctrl-C and preemption, so that the run can save before it ends.

    Used as a context manager around the training loop. A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self._noticed = False
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

    def due(self, step: int) -> bool:
        """Whether to end after this step; the same answer in every process."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._noticed
