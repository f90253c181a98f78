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
            folder = self._copying.enter_context(written_on_disk(self._folder))
            jax.profiler.start_trace(folder, profiler_options=without_python())

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


def without_python() -> jax.profiler.ProfileOptions:
    """What a trace holds: the devices and the runtime, not Python's function calls.

    To follow those, JAX goes through all threads of Python without stopping them. A thread that
    ends meanwhile, such as one that saves a checkpoint, crashes the process (CPython's gh-137400).
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    return options
