"""The workdir of a run: the names of its files, who may use it, reading and writing them.

One process at a time holds its lock, and one configuration claims it for good.
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from swav_jax.config import DURATIONS, ConfigError, to_dict
from swav_jax.runtime import machine
from swav_jax.runtime.lease import lease
from swav_jax.runtime.storage import (
    AnyPath,
    append,
    entries,
    in_bucket,
    located,
    make_folder,
    read_appended,
    settle,
    write_whole,
)
from swav_jax.versions import changes, unknown_settings

CONFIG = "config.json"
METRICS = "metrics.jsonl"
RESULTS = "results.json"
CHECKPOINTS = "checkpoints"  # a folder for each step
SEAL = "seal"  # of a checkpoint, written last
NEWEST = "newest"  # in a bucket: names the last complete checkpoint
DOCTOR = "doctor.md"
PLAN = "plan.json"
CURVES = "curves.png"
CROPS = "crops.png"
SUMMARY = "summary.txt"
REPORT = "report.html"
COMPARISON = "compare.html"
PROFILE = "profile"  # traces
TENSORBOARD = "tensorboard"  # events
FEATURES = "features"  # of data sets, a folder each
NEIGHBOURS = "neighbours.csv"  # path,rank,neighbour,similarity
LOCK = ".lock"
RESULTS_LOCK = ".results.lock"  # held while `results.json` is read, changed and written
PATTERN = "*?[\\"  # characters that Orbax does not take as they are

AT_RANDOM = "random_init_"  # begins the names of results of the network before training

# Settings that may differ when a run is resumed: they do not affect what is learnt.
MAY_CHANGE_ON_RESUME = (
    "checkpoint.",
    "data.cache:",
    "data.crop_on:",
    "data.data_dir:",
    "data.download:",
    "data.label_key:",
    "data.max_bad_fraction:",
    "data.threads:",
    "eval.",
    "mesh.",
    "profile.",
    "train.log_every_steps:",
    "train.remat:",
    *(f"{section}.{epochs}:" for section, epochs, _ in DURATIONS),  # their steps count
)


class OtherRun(ConfigError):
    """The run in a workdir has other settings or images; `changed` says which."""

    def __init__(self, message: str, changed: str):
        super().__init__(message)
        self.changed = changed


@contextmanager
def claimed(config: ConfigDict, workdir: AnyPath) -> Iterator[None]:
    """Makes the workdir this run's, and keeps other processes out of it; see `locked`, `claim`."""
    with locked(workdir):
        claim(config, workdir)
        yield


@contextmanager
def locked(workdir: AnyPath) -> Iterator[None]:
    """Makes a workdir and keeps other processes out. The lock ends with the process.

    Raises:
      ConfigError: checkpoints in a folder of this name could not be read.
      BlockingIOError: another process is in there.
      OSError: it cannot be written to.
    """
    if bad := sorted(set(PATTERN) & set(str(located(workdir)))):
        raise ConfigError(
            f"--workdir={workdir}: in a path, Orbax takes {' '.join(bad)} for a pattern and would "
            "not find its own checkpoints: choose another name"
        )
    make_folder(workdir)
    with lease(workdir / LOCK) if in_bucket(workdir) else _file_lock(workdir / LOCK):
        yield


@contextmanager
def _file_lock(path: AnyPath) -> Iterator[None]:
    workdir = path.parent
    with path.open("w") as lock:
        try:
            if not machine.lock(lock):
                logging.warning(
                    "%s has no file locks: nothing keeps a second run out of it", workdir
                )
        except BlockingIOError:
            raise BlockingIOError(
                f"another process trains in {workdir}: choose another --workdir, "
                "or end that process"
            ) from None
        yield


def claim(config: ConfigDict, workdir: AnyPath) -> None:
    """Writes `config.json` into a new workdir, or checks that its run has the same settings.

    Called by the one process that holds the lock. A workdir where nothing was trained yet is taken
    over.

    Args:
      config: its durations in steps.
      workdir: of which this process holds the lock.

    Raises:
      ConfigError: it belongs to another run; nothing is changed.
    """
    if begun(config, workdir):
        return
    settings = to_dict(config)
    if read_config(workdir) != settings and read_results(workdir):
        with _changing_results(workdir) as results:
            kept = _without_random_network(results)
            results.clear()
            results.update(kept)
    make_folder(workdir)
    write_whole(workdir / CONFIG, _json(settings, indent=2))


def begun(config: ConfigDict, workdir: AnyPath) -> bool:
    """Whether this run has begun in a workdir; arguments and errors as of `claim`."""
    old = read_config(workdir)
    if old and not any(isinstance(old.get(section), dict) for section in to_dict(config)):
        raise ConfigError(f"{workdir / CONFIG} does not belong to a run; choose another --workdir")
    if not (entries(workdir / CHECKPOINTS) or (workdir / METRICS).exists()):
        return False
    _check_same_run(old, config, workdir)
    return True


def _without_random_network(results: Any) -> Any:
    """Results without those of the random network, which other settings drew."""
    if isinstance(results, list):  # of `earlier`
        return [_without_random_network(value) for value in results]
    if not isinstance(results, Mapping):
        return results
    return {
        name: _without_random_network(value)
        for name, value in results.items()
        if not name.startswith(AT_RANDOM)
    }


def _check_same_run(old: dict[str, Any], config: ConfigDict, workdir: AnyPath) -> None:
    """Refuses (ConfigError) to resume a run with settings that would change what it learns."""
    if not old:
        raise ConfigError(
            f"{workdir} holds a run but no config.json, so its settings are not known. Choose "
            "another --workdir."
        )
    if unknown := [key for key in unknown_settings(old) if not _may_change(key)]:
        raise ConfigError(
            f"a newer version of swav_jax made the run in {workdir}: this one has no settings "
            f"{', '.join(unknown)}. Resume it with that version, or choose another --workdir."
        )
    from_labels = config.method.name == "supervised"
    if changed := [
        change
        for change in changes(old, config)
        if not _may_change(change) or (from_labels and change.startswith("data.label_key:"))
    ]:
        other_network = any(change.startswith(("model.arch:", "model.stem:")) for change in changed)
        begins = not other_network and bool(saved_steps(workdir / CHECKPOINTS))
        start = f", with --config.init_from={workdir} to start from its backbone" if begins else ""
        some = f"{'; '.join(changed[:5])}{'; ...' * (len(changed) > 5)}"
        raise OtherRun(
            f"{workdir} holds a run with other settings ({some}). Resume that run with its own "
            f"settings, or choose another --workdir{start}.",
            some,
        )


def _may_change(setting: str) -> bool:
    """Whether a setting, "data.threads" or "data.threads: 0 there, 4 here", may change."""
    return f"{setting}:".startswith(MAY_CHANGE_ON_RESUME)


def read_config(workdir: AnyPath) -> dict[str, Any]:
    """The contents of `config.json`; empty if there is none.

    Raises:
      ConfigError: it is damaged.
    """
    return _read(workdir / CONFIG)


def saved_steps(checkpoints: AnyPath) -> list[int]:
    """The steps of the complete checkpoints in a folder of checkpoints, in no order.

    On a disk a folder gets its number when it is complete; in a bucket only its seal shows that.
    """
    names = {entry.name for entry in entries(checkpoints) if entry.name.isdecimal()}
    if in_bucket(checkpoints):
        if (checkpoints / NEWEST).exists():  # a list may lag behind
            names.add((checkpoints / NEWEST).read_text())
        names = {name for name in names if (checkpoints / name / SEAL).exists()}
    return list(map(int, names))


def read_results(workdir: AnyPath) -> dict[str, Any]:
    """The contents of `results.json`, by task; empty if there is none.

    Raises:
      ConfigError: it is damaged.
    """
    return _read(workdir / RESULTS)


def scores_before_training(results: Mapping[str, Any]) -> dict[str, float]:
    """The random network's scores, by the names that `metrics.jsonl` has for them: `knn_top1`.

    Of each score the first that was written, which is of the images that training evaluates on. A
    task may have measured others since; then training's own are in `earlier`.

    Args:
      results: of `results.json`.
    """
    now = [{"task": task, **one} for task, one in results.items() if isinstance(one, Mapping)]
    found: dict[str, float] = {}
    for figures in [*results.get("earlier", []), *now]:
        for name, value in figures.items():
            if name.startswith(AT_RANDOM):
                found.setdefault(f"{figures['task']}_{name.removeprefix(AT_RANDOM)}", value)
    return found


def update_results(workdir: AnyPath, task: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """Merges a task's results into `results.json` and returns that task's.

    Numbers that are NaN or infinite are left out, earlier ones too: other programs could not read
    the file. The same holds for `metrics.jsonl`.
    """
    with _changing_results(workdir) as everything:
        everything[task] = everything.get(task, {}) | dict(results)
    return everything[task]


def replace_results(
    workdir: AnyPath, task: str, results: Mapping[str, Any], *, any_step: bool = False
) -> None:
    """Puts a task's results into `results.json`; others of it stay, or are kept in `earlier`.

    Args:
      workdir: of the run.
      task: whose results they are.
      results: those that stay have the same `checkpoint`, and the same `images` and protocols, or
        do not say.
      any_step: those of another checkpoint stay too.
    """
    with _changing_results(workdir) as everything:
        old = everything.pop(task, {})
        both = [key for key in old if key in results and (key == "images" or "protocol" in key)]
        other = any(old[key] != results[key] for key in both)
        if not any_step:  # training by earlier versions did not say the images, nor the checkpoint
            other |= bool(old) and old.get("checkpoint") != results.get("checkpoint")
        if other:
            everything.setdefault("earlier", []).append({"task": task} | old)
            old = {}
        everything[task] = old | dict(results)


@contextmanager
def _changing_results(workdir: AnyPath) -> Iterator[dict[str, Any]]:
    """The contents of `results.json`, which the block changes; they are written when it ends.

    Only one process at a time, and others wait: none loses what another writes.
    """
    lock = workdir / RESULTS_LOCK
    with lease(lock, wait=True) if in_bucket(workdir) else machine.one_at_a_time(lock):
        everything = read_results(workdir)
        yield everything
        write_whole(workdir / RESULTS, _json(everything, indent=2))


def read_metrics(workdir: AnyPath) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, except one that a kill cut short; empty if there is none.

    `step` is the number of steps done. In files of earlier versions it is one less where the line
    is of a training step; such lines are read with the number that they would have today.
    """
    lines = list(filter(None, map(_parsed, read_appended(workdir / METRICS).splitlines())))
    if any(line["step"] == 0 and "loss" in line for line in lines):  # earlier versions log step 0
        return [line | {"step": line["step"] + ("loss" in line)} for line in lines]
    return lines


def append_metrics(workdir: AnyPath, line: Mapping[str, Any]) -> None:
    """Adds a line to `metrics.jsonl`, which holds finite numbers only.

    Raises:
      OSError: it cannot be written.
    """
    path = workdir / METRICS
    try:
        append(path, _json(line))
    except OSError as problem:
        raise OSError(
            f"{path} cannot be written: {problem.strerror or problem}. Free some space; the same "
            "command resumes at the newest checkpoint."
        ) from None


def settle_metrics(workdir: AnyPath) -> None:
    """Leaves all lines in `metrics.jsonl` itself: in a bucket, new ones go to a second object."""
    settle(workdir / METRICS)


def rewind_metrics(workdir: AnyPath, first_step: int) -> list[dict[str, Any]]:
    """Drops from `metrics.jsonl` what will be done again, and returns the lines that are left.

    A run that resumes after `first_step` steps evaluates and clusters there again if that is due,
    then takes the next step. If no line would be left, the file becomes `metrics.<n>.jsonl` and
    nothing is dropped.
    """
    path = workdir / METRICS
    settle_metrics(workdir)
    text = read_appended(path)
    last = {True: first_step, False: first_step - 1}  # for lines of a training step, or of none
    kept = [line for line in read_metrics(workdir) if line["step"] <= last["loss" in line]]
    if text and not kept:
        names = (workdir / f"metrics.{n}.jsonl" for n in itertools.count())
        aside = next(path for path in names if not path.exists())
        write_whole(aside, text)
        path.unlink()
        logging.warning("No checkpoint found: starting over; earlier metrics moved to %s", aside)
        return []
    if text != (rewound := "".join(_json(line) for line in kept)):
        write_whole(path, rewound)
    return kept


def _parsed(line: str) -> dict[str, Any] | None:
    """A line of `metrics.jsonl`; None for one that a kill cut short."""
    try:
        values = json.loads(line)
    except json.JSONDecodeError:
        return None
    return values if isinstance(values, dict) and "step" in values else None


def _read(path: AnyPath) -> dict[str, Any]:
    """The object in a JSON file; empty without the file."""
    try:
        contents = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:  # no JSON, or no text
        raise ConfigError(
            f"{path} is damaged ({error}): repair it, or choose another --workdir"
        ) from None
    if not isinstance(contents, dict):
        raise ConfigError(f"{path} does not belong to a run; choose another --workdir")
    return contents


def _json(values: Mapping[str, Any], indent: int | None = None) -> str:
    return json.dumps(_finite(values), indent=indent, allow_nan=False) + "\n"


def _finite(values: Any) -> Any:
    """All but the numbers that are NaN or infinite, which JSON does not know."""
    if isinstance(values, Mapping):
        return {name: _finite(value) for name, value in values.items() if not _is_nan(value)}
    if isinstance(values, list | tuple):
        return [None if _is_nan(value) else _finite(value) for value in values]
    return values


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
