"""What a run writes down: metrics.jsonl, TensorBoard events, results.json, the terminal."""

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import logging
from tqdm import tqdm

from swav_jax.data.tf import tf
from swav_jax.workdir import write_whole


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
        self._path = workdir / "metrics.jsonl"
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        kept = [line for line in lines if _step_of(line) < first_step]
        events = workdir / "tensorboard"
        if lines and not kept:
            names = (workdir / f"metrics.{n}.jsonl" for n in itertools.count())
            aside = next(path for path in names if not path.exists())
            self._path.rename(aside)
            logging.warning("There is no checkpoint: training starts anew, %s has its past", aside)
        if len(kept) < len(lines):
            write_whole(self._path, "".join(kept))
            for old in events.glob("events.out.tfevents.*"):
                old.unlink()
        self._events = tf.summary.create_file_writer(str(events))
        if len(kept) < len(lines):
            for line in map(json.loads, kept):
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
        try:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as problem:
            raise OSError(
                f"{self._path} cannot be written: {problem.strerror}. Free some space; the same "
                "command goes on from the newest checkpoint."
            ) from None
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


def update_results(workdir: Path, task: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """Merges a task's results into `results.json` and returns that task's."""
    path = workdir / "results.json"
    everything = read_results(workdir)
    everything[task] = everything.get(task, {}) | dict(results)
    write_whole(path, json.dumps(everything, indent=2) + "\n")
    return everything[task]


def read_results(workdir: Path) -> dict[str, Any]:
    """The contents of `results.json`; empty if there is none."""
    path = workdir / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _shows_bars() -> bool:
    """Whether standard error is a terminal that says how large it is; tqdm draws nothing else."""
    return sys.stderr.isatty() and 0 not in os.get_terminal_size(sys.stderr.fileno())


def _step_of(line: str) -> float:
    """The step of a line; infinity for one that a kill cut short."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return float("inf")
