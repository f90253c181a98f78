"""Monitors a run while it trains: reads every step's metrics, one step late."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Self

import jax
from jaxtyping import PyTree

from swav_jax.config import profiled_steps
from swav_jax.data.batch import TrainBatch, TrainBatches
from swav_jax.methods.contract import Metrics
from swav_jax.monitor.crops import cut_on_host, draw_crops
from swav_jax.monitor.doctor import Doctor
from swav_jax.monitor.logbook import Logbook
from swav_jax.monitor.profile import Profiler
from swav_jax.ops.metrics import FIRST_BAD
from swav_jax.run import Run
from swav_jax.runtime.storage import AnyPath
from swav_jax.workdir import CROPS, PROFILE


class Watch:
    """The logbook, the doctor and the profiler of one run.

    Metrics are read while the device works on the next step, so that it never waits for the host.
    A context manager: however training ends, the files and the terminal are left in order.

    Args:
      run: to watch.
      workdir: where its files go.
      first_step: number of steps already done.
    """

    def __init__(self, run: Run, workdir: AnyPath, first_step: int) -> None:
        self._run, self.workdir, self._first_step = run, workdir, first_step
        self._active = active = jax.process_index() == 0
        self._logbook = Logbook(
            workdir,
            first_step=first_step,
            total_steps=run.sizes.total_steps,
            batch_size=run.sizes.batch_size,
            active=active,
        )
        self._doctor = Doctor(workdir, run.config, run.sizes, active=active)
        self._profiler = Profiler(profiled_steps(run.config.profile.steps), workdir / PROFILE)
        self._unread: tuple[int, Metrics] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        # Each is closed, whatever happens to the others. On a full disk the first error says more.
        with suppress(*[OSError] if error else []), ExitStack() as closing:
            for part in (self._doctor, self._logbook, self._profiler):
                closing.callback(part.close)

    def before(self, step: int, batches: TrainBatches, batch: TrainBatch) -> None:
        """Looks at the batch of a step.

        Args:
          step: that comes next; the first is step 0.
          batches: that the batch is from, for the time it took.
          batch: of the step, on the host.
        """
        if self._doctor.looks:
            cut = cut_on_host(self._run, batch)  # by all processes, or by none
            if self._active and step == self._first_step:
                draw_crops(self._run, cut, step, self.workdir / CROPS)
            self._doctor.look(cut.crops)
        self._logbook.waited(batches.wait_seconds, batches.stage_seconds)
        self._profiler.before(step)

    def after(self, step: int, state: PyTree, metrics: Metrics) -> None:
        """Reads the metrics of the step before, and keeps those of this one.

        Args:
          step: just given to the device; the first is step 0.
          state: after it.
          metrics: of it.

        Raises:
          Diverged: the loss or the gradient of the step before was not finite.
        """
        self._profiler.after(step, metrics)
        self.read(state)
        self._unread = step, metrics

    def read(self, state: PyTree) -> None:
        """Reads the metrics that are unread: at the end, and before a checkpoint is saved.

        Raises:
          Diverged: the loss or the gradient was not finite.
        """
        if self._unread is None:
            return
        (step, metrics), self._unread = self._unread, None
        done, every = step + 1, self._run.config.train.log_every_steps
        self._doctor.check(done, metrics, state)
        self._logbook.advance(done)
        if done % every and done not in (1, self._run.sizes.total_steps):
            return
        shown = {name: value for name, value in metrics.items() if name != FIRST_BAD}
        values = jax.device_get(shown) | self._logbook.speed(done)
        if self._run.source.may_fail:
            values["unreadable_images"] = len(self._run.source.unreadable)
        self.note(done, values)

    def note(self, done: int, scores: Mapping[str, float]) -> None:
        """Records what a step, a clustering or an evaluation gave, after a number of steps."""
        if scores:
            self._logbook.write(done, done / self._run.sizes.steps_per_epoch, scores)
            self._doctor.observe(done, scores)

    @contextmanager
    def pause(self, state: PyTree) -> Iterator[None]:
        """For work that is not training: leaves its time out of the throughput."""
        self.read(state)
        with self._logbook.pause():
            yield
