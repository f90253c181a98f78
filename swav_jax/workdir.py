"""The workdir of a run: the names of its files, who may use it, what is read and written there.

One process at a time holds its lock, and one configuration claims it for good.
"""

import fcntl
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from swav_jax.config import ConfigError, to_dict

CONFIG = "config.json"
METRICS = "metrics.jsonl"
RESULTS = "results.json"
CHECKPOINTS = "checkpoints"  # a folder for each step
DOCTOR = "doctor.md"
CURVES = "curves.png"
CROPS = "crops.png"
PROFILE = "profile"  # traces
TENSORBOARD = "tensorboard"  # events
LOCK = ".lock"

# Settings that may differ when a run is resumed: they decide nothing of what is learnt.
MAY_CHANGE_ON_RESUME = (
    "checkpoint.",
    "data.data_dir:",
    "data.download:",
    "data.max_bad_fraction:",
    "data.threads:",
    "eval.",
    "mesh.",
    "profile.",
    "train.log_every_epochs:",
    "train.log_every_steps:",
)


@contextmanager
def claimed(config: ConfigDict, workdir: Path) -> Iterator[None]:
    """Makes the workdir this run's, and keeps other processes out of it; see `locked`, `claim`."""
    with locked(workdir):
        claim(config, workdir)
        yield


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Makes a workdir and keeps other processes out. The lock ends with the process.

    Raises:
      NotADirectoryError: the folder is a bucket's address.
      BlockingIOError: another process is in there.
    """
    if ":/" in str(workdir):  # what is left of gs:// in a path
        raise NotADirectoryError(
            f"--workdir={workdir} is no folder: mount the bucket, and name the folder all hosts see"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another process trains in {workdir}: choose another --workdir, "
                "or end that process"
            ) from None
        yield


def claim(config: ConfigDict, workdir: Path) -> None:
    """Writes `config.json` into a new workdir, or checks that its run has the same settings.

    For one process, that is alone in the workdir. One where nothing was trained yet is taken over.

    Raises:
      ConfigError: another run lives there; nothing is changed.
    """
    path = workdir / CONFIG
    trained = bool(saved_steps(workdir / CHECKPOINTS)) or (workdir / METRICS).exists()
    if trained and not path.exists():
        raise ConfigError(
            f"{workdir} holds a run but no config.json, so it is not known what it is of. "
            "Choose another --workdir."
        )
    if trained:
        try:
            old = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path} is damaged ({error}); choose another --workdir") from None
        found = _changed(old, to_dict(config))
        changed = sorted(change for change in found if not change.startswith(MAY_CHANGE_ON_RESUME))
        if changed:
            raise ConfigError(
                f"{workdir} holds a run with other settings ({'; '.join(changed[:5])}). "
                "Choose another --workdir, or the old settings to go on with that run."
            )
        return
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / RESULTS).unlink(missing_ok=True)  # of the random network of other settings
    write_whole(path, json.dumps(to_dict(config), indent=2, sort_keys=True) + "\n")


def _changed(old: dict, new: dict, prefix: str = "") -> Iterator[str]:
    for key in old.keys() | new.keys():
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _changed(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}: {a!r} there, {b!r} here"


def saved_steps(checkpoints: Path) -> list[int]:
    """The steps of the complete checkpoints in a folder of checkpoints, in no order."""
    entries = checkpoints.iterdir() if checkpoints.is_dir() else ()
    return [int(entry.name) for entry in entries if entry.name.isdecimal()]


def read_results(workdir: Path) -> dict[str, Any]:
    """The contents of `results.json`, by task; empty if there is none."""
    path = workdir / RESULTS
    return json.loads(path.read_text()) if path.exists() else {}


def update_results(workdir: Path, task: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """Merges a task's results into `results.json` and returns that task's.

    Numbers that are NaN or infinite are left out there, also those of before: other programs could
    not read the file. The same goes for `metrics.jsonl`.
    """
    everything = read_results(workdir)
    everything[task] = everything.get(task, {}) | dict(results)
    write_whole(workdir / RESULTS, _json(everything, indent=2) + "\n")
    return everything[task]


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, except one that a kill cut short; empty if there is none.

    `step` is the number of steps done. In files of earlier versions it is one less where the line
    is of a training step; such lines are read with the number that they would have today.
    """
    path = workdir / METRICS
    lines = list(filter(None, map(_parsed, path.read_text().splitlines()))) if path.exists() else []
    if any(line["step"] == 0 and "loss" in line for line in lines):  # earlier versions log step 0
        return [line | {"step": line["step"] + ("loss" in line)} for line in lines]
    return lines


def append_metrics(workdir: Path, line: Mapping[str, Any]) -> None:
    """Adds a line to `metrics.jsonl`, which holds finite numbers only.

    Raises:
      OSError: it cannot be written.
    """
    path = workdir / METRICS
    try:
        with path.open("a") as file:
            file.write(_json(line) + "\n")
    except OSError as problem:
        raise OSError(
            f"{path} cannot be written: {problem.strerror}. Free some space; the same "
            "command goes on from the newest checkpoint."
        ) from None


def rewind_metrics(workdir: Path, first_step: int) -> list[dict[str, Any]]:
    """Drops from `metrics.jsonl` what will be done again, and returns the lines that are left.

    A run that resumes after `first_step` steps evaluates and clusters there again if that is due,
    then makes the next step. Where no line would be left, the file is renamed to
    `metrics.<n>.jsonl` and nothing is dropped.
    """
    path = workdir / METRICS
    text = path.read_text() if path.exists() else ""
    last = {True: first_step, False: first_step - 1}  # of lines that are of a training step or not
    kept = [line for line in read_metrics(workdir) if line["step"] <= last["loss" in line]]
    if text and not kept:
        names = (workdir / f"metrics.{n}.jsonl" for n in itertools.count())
        aside = next(path for path in names if not path.exists())
        path.rename(aside)
        logging.warning("No checkpoint found: starting over; earlier metrics moved to %s", aside)
        return []
    if text != (rewound := "".join(_json(line) + "\n" for line in kept)):
        write_whole(path, rewound)
    return kept


def _parsed(line: str) -> dict[str, Any] | None:
    """A line of `metrics.jsonl`; None for one that a kill cut short."""
    try:
        values = json.loads(line)
    except json.JSONDecodeError:
        return None
    return values if isinstance(values, dict) and "step" in values else None


def _json(values: Mapping[str, Any], indent: int | None = None) -> str:
    return json.dumps(_finite(values), indent=indent, allow_nan=False)


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """All but the numbers that are NaN or infinite: JSON has no word for them."""
    kept = {k: _finite(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    return {k: v for k, v in kept.items() if not isinstance(v, float) or math.isfinite(v)}


def write_whole(path: Path, text: str) -> None:
    """Writes a file atomically: after a crash or on a full disk the old one is intact."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)
