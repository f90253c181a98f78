"""What a run writes down: metrics.jsonl, TensorBoard events, results.json, the terminal."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from absl import logging
from tqdm import tqdm

from swav_jax.data.tf import tf
from swav_jax.workdir import TENSORBOARD, append_metrics, read_metrics, rewind_metrics
from swav_jax.workdir import read_results as read_results
from swav_jax.workdir import update_results as update_results


class Logbook:
    """The record of one run; a silent one on all hosts but the first.

    Args:
      workdir: where the files go.
      first_step: steps already done; what is recorded from there on belongs to steps that will be
        made again, and is removed.
      total_steps: where training ends.
      batch_size: images of a step.
      active: whether this host writes.
    """

    def __init__(
        self, workdir: Path, *, first_step: int, total_steps: int, batch_size: int, active: bool
    ):
        self._workdir, self._batch_size, self._active = workdir, batch_size, active
        self._last = (time.perf_counter(), first_step)
        self._waited, self._stages = 0.0, dict[str, float]()
        if not active:
            return
        events = workdir / TENSORBOARD
        redraw = rewind_metrics(workdir, first_step)
        for old in events.glob("events.out.tfevents.*") if redraw else ():
            old.unlink()
        self._events = tf.summary.create_file_writer(str(events))
        for line in read_metrics(workdir) if redraw else ():
            self._draw(line.pop("step"), line)
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            unit="step",
            dynamic_ncols=True,
            disable=not _shows_bars(),
        )

    def waited(self, seconds: float, stages: Mapping[str, float]) -> None:
        """Adds to the time that training waited for data, and keeps the time of each stage."""
        self._waited += seconds
        self._stages = {f"{stage}_seconds": time for stage, time in stages.items()}

    def advance(self, step: int) -> None:
        """Moves the progress bar to a finished step."""
        if self._active:
            self._bar.update(step + 1 - self._bar.n)

    def speed(self, step: int) -> dict[str, float]:
        """Throughput and share of time spent waiting for data since the last call."""
        now, (then, last) = time.perf_counter(), self._last
        elapsed = max(now - then, 1e-9)
        done = max(step + 1 - last, 0)
        speed = {
            "images_per_second": done * self._batch_size / elapsed,
            "data_wait_share": min(self._waited / elapsed, 1.0),
            **self._stages,
        }
        self._last, self._waited = (now, step + 1), 0.0
        return speed

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leaves the time spent on something else than training out of the throughput."""
        start = time.perf_counter()
        yield
        then, step = self._last
        self._last = (then + time.perf_counter() - start, step)

    def write(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Records metrics after a step, in the files and on the terminal."""
        if not self._active:
            return
        line = {"step": step, "epoch": round(epoch, 4)} | {k: float(v) for k, v in metrics.items()}
        append_metrics(self._workdir, line)
        self._draw(step, metrics)
        self._events.flush()
        text = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if self._bar.disable:
            done = min(step + 1, self._bar.total)  # evaluations come behind the last step
            logging.info("step %d/%d  epoch %.2f  %s", done, self._bar.total, epoch, text)
        elif "loss" in metrics:
            rate = metrics.get("images_per_second", 0.0)
            self._bar.set_postfix_str(f"loss {metrics['loss']:.3f}, {rate:.0f} img/s")
        else:
            self._bar.write(f"epoch {epoch:.4g}: {text}")

    def _draw(self, step: int, metrics: Mapping[str, float]) -> None:
        with self._events.as_default(step=step):
            for name, value in metrics.items():
                if name != "epoch":
                    tf.summary.scalar(name, float(value))

    def close(self) -> None:
        """Ends the progress bar and flushes the events."""
        if self._active:
            self._bar.close()
            self._events.close()


def _shows_bars() -> bool:
    """Whether standard error is a terminal that says how large it is; tqdm draws nothing else."""
    return sys.stderr.isatty() and 0 not in os.get_terminal_size(sys.stderr.fileno())
