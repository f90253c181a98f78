"""Traces a few steps with JAX's profiler, for xprof."""

from contextlib import ExitStack

import jax
from absl import logging
from jaxtyping import PyTree

from swav_jax.runtime.storage import AnyPath, written_on_disk


class Profiler:
    """Profiles a range of steps and writes the trace into a folder; does nothing for no steps."""

    def __init__(self, steps: range, folder: AnyPath) -> None:
        self._steps, self._folder, self._on = steps, folder, False
        self._copying = ExitStack()  # JAX writes to disks

    def before(self, step: int) -> None:
        """Starts the profiler at the first step of the range that this process takes."""
        if step in self._steps and not self._on:
            self._on = True
            jax.profiler.start_trace(self._copying.enter_context(written_on_disk(self._folder)))

    def after(self, step: int, results: PyTree) -> None:
        """Ends the trace after the last step of the range, once the device has finished it."""
        if self._on and step + 1 == self._steps.stop:
            jax.block_until_ready(results)
            self.close()

    def close(self) -> None:
        """Writes the trace, even if the range was cut short."""
        if self._on:
            self._on = False
            jax.profiler.stop_trace()
            self._copying.close()
            logging.info("trace written; open it with: xprof --logdir=%s", self._folder)
