"""Where a run's metrics go: `metrics.jsonl`, TensorBoard, the terminal; how fast the run is."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from absl import logging
from tqdm import tqdm

from swav_jax.monitor.events import POINTS, Events
from swav_jax.runtime.progress import shows_bars
from swav_jax.runtime.storage import AnyPath, in_bucket
from swav_jax.workdir import TENSORBOARD, append_metrics, rewind_metrics, settle_metrics


class Logbook:
    """The record of one run; silent in all processes but the first.

    Args:
      workdir: where the files go.
      first_step: number of steps already done; what is recorded of later ones is dropped.
      total_steps: where training ends.
      batch_size: images of a step.
      active: whether this process writes.
    """

    def __init__(
        self, workdir: AnyPath, *, first_step: int, total_steps: int, batch_size: int, active: bool
    ):
        self._workdir, self._batch_size, self._active = workdir, batch_size, active
        self._last: tuple[float, int] | None = None  # time and steps done, from the first one on
        self._waited, self._stages = 0.0, dict[str, float]()
        if not active:
            return
        kept = rewind_metrics(workdir, first_step)
        # In a bucket a kill may have taken the last points from TensorBoard.
        begins = kept[-POINTS:][0]["step"] if kept and in_bucket(workdir) else first_step
        self._events = Events(workdir / TENSORBOARD, begins)
        for line in kept:
            if line["step"] >= begins:  # made already, and forgotten by TensorBoard
                self._draw(line)
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            unit="step",
            dynamic_ncols=True,
            disable=not shows_bars(),
        )

    def waited(self, seconds: float, stages: Mapping[str, float]) -> None:
        """Adds to the time that training waited for data, and keeps the time of each stage."""
        self._waited += seconds
        self._stages = {f"{stage}_seconds": time for stage, time in stages.items()}

    def advance(self, done: int) -> None:
        """Moves the progress bar to the number of steps done; the first one starts the clock."""
        if self._last is None:  # after what had to be compiled
            self._last, self._waited = (time.perf_counter(), done), 0.0
        if self._active:
            self._bar.update(done - self._bar.n)

    def speed(self, done: int) -> dict[str, float]:
        """Throughput and share of time spent waiting for data since the last call."""
        if self._last is None or self._last[1] == done:
            return {}
        now, (then, before) = time.perf_counter(), self._last
        elapsed = max(now - then, 1e-9)
        speed = {
            "images_per_second": (done - before) * self._batch_size / elapsed,
            "data_wait_share": min(self._waited / elapsed, 1.0),
            **self._stages,
        }
        self._last, self._waited = (now, done), 0.0
        return speed

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leaves time that is not spent on training out of the throughput."""
        start = time.perf_counter()
        yield
        if self._last is not None:
            then, done = self._last
            self._last = then + time.perf_counter() - start, done

    def write(self, done: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Records metrics after a number of steps, in the files and on the terminal."""
        if not self._active:
            return
        line = {"step": done, "epoch": round(epoch, 4)} | {k: float(v) for k, v in metrics.items()}
        append_metrics(self._workdir, line)
        self._draw(line)
        text = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        rate, left = metrics.get("images_per_second"), self._bar.total - done
        if rate and left:
            text += f"  {timedelta(seconds=round(left * self._batch_size / rate))} to go"
        if self._bar.disable:
            logging.info("step %d/%d  epoch %.2f  %s", done, self._bar.total, epoch, text)
        elif "loss" in metrics:
            speed = f", {rate:.0f} img/s" if rate else ""
            self._bar.set_postfix_str(f"loss {metrics['loss']:.3f}{speed}")
        else:
            self._bar.write(f"epoch {epoch:.4g}: {text}")

    def _draw(self, line: Mapping[str, float]) -> None:
        metrics = {name: value for name, value in line.items() if name not in ("step", "epoch")}
        self._events.write(int(line["step"]), metrics)

    def close(self) -> None:
        """Ends the progress bar and closes the event file."""
        if self._active:
            self._bar.close()
            settle_metrics(self._workdir)
            self._events.close()
