"""The doctor watches a run: gathers its facts, reports each finding once, stops it if it diverges.

It reports on the terminal and in the workdir's `doctor.md`. Its findings stay in `results.json` for
when the run resumes. The faults that it looks for are in `rules`, what helps is in `remedies`.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float, PyTree, UInt8
from ml_collections import ConfigDict

from swav_jax.methods.contract import Sizes, TrainState
from swav_jax.monitor.history import VITAL, History
from swav_jax.monitor.rules import (
    LOOK_AT,
    NOT_FINITE,
    RULES,
    Facts,
    Finding,
    applies,
    conclude,
    examine,
    not_finite,
    wild_rate,
)
from swav_jax.ops.metrics import FIRST_BAD
from swav_jax.runtime.storage import AnyPath, write_whole
from swav_jax.trees import named_leaves
from swav_jax.workdir import (
    AT_RANDOM,
    CHECKPOINTS,
    DOCTOR,
    read_metrics,
    read_results,
    saved_steps,
    update_results,
)


class Diverged(RuntimeError):
    """Training met numbers that are not finite; the message says where and what to do."""


class Doctor:
    """Watches one run.

    Args:
      workdir: of the run; resumes from what its `metrics.jsonl` and `results.json` hold.
      config: of the run.
      sizes: of the run.
      active: whether this process writes and reports.
    """

    def __init__(self, workdir: AnyPath, config: ConfigDict, sizes: Sizes, *, active: bool = True):
        self._workdir, self._active = workdir, active
        results = read_results(workdir) if active else {}
        random_rank = results.get("quality", {}).get(f"{AT_RANDOM}rankme")
        self._facts = Facts(config, sizes, random_rank=random_rank)
        self._history = History(read_metrics(workdir) if active else ())
        known = results.get("doctor", {}).get("findings", {})
        last = self._history.last["step"] if self._history.last else -1
        self._noted = {name: noted for name, noted in known.items() if noted["step"] <= last}
        if len(self._noted) < len(known):  # those of steps that will be made again
            update_results(workdir, "doctor", {"findings": self._noted})
        self._found = {name: _finding(noted) for name, noted in self._noted.items()}
        self._seen: list[np.ndarray] = []

    @property
    def looks(self) -> bool:
        """Whether it still wants to see crops."""
        return self._facts.variance_ratio is None

    def look(self, crops: Sequence[UInt8[np.ndarray, "b _n _S _S 3"]]) -> None:
        """Measures on the first batches whether the images differ."""
        self._seen.append(crop_statistics(crops))
        if sum(map(len, self._seen)) >= min(LOOK_AT, self._facts.sizes.size):
            ratio = variance_ratio(np.concatenate(self._seen))
            self._facts = dataclasses.replace(self._facts, variance_ratio=ratio)

    def check(self, step: int, metrics: Mapping[str, Any], state: TrainState) -> None:
        """Stops a run whose loss or gradient is not finite.

        All processes call it for every step, before a checkpoint of the state after it is written:
        no checkpoint holds numbers that are known to be bad.

        Args:
          step: that gave the metrics; the first is step 1.
          metrics: of that step.
          state: the train state after it, or after a later one.

        Raises:
          Diverged: what is not finite, since which step, and the last good checkpoint.
        """
        names = (*VITAL, FIRST_BAD)
        values = jax.device_get({name: metrics[name] for name in names if name in metrics})
        place = int(values.pop(FIRST_BAD, -1))
        evidence = not_finite(History([{"step": step} | values]), self._facts)
        if place >= 0:
            evidence = evidence or f"Numbers became NaN or infinite in step {step}."
        if not evidence:
            return
        culprit = _culprit(place, state)
        bad = [(name.split("/")[0], name) for name in nonfinite_leaves(state)]
        first = dict(reversed(bad))  # of each part of the state
        counts = Counter(part for part, _ in bad)
        named = ", ".join(f"{first[part]} (of {n} bad ones)" for part, n in counts.items())
        folder = self._workdir / CHECKPOINTS
        good = max((s for s in saved_steps(folder) if s < step - 1), default=None)  # a finite step
        evidence += (
            f" The first tensor to be so in that step: {culprit}."
            f" By now: {named or 'none, all of the state is finite'}."
            f" The last good checkpoint: {'none' if good is None else folder / str(good)}."
            f"{wild_rate(self._facts)}"
        )
        finding = conclude(NOT_FINITE, evidence, self._facts)
        self._report(step, finding)
        raise Diverged(str(finding))

    def observe(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Judges what is logged after a step, and reports each finding the first time."""
        if not self._active:
            return
        self._history.add({"step": step} | {k: float(v) for k, v in metrics.items()})
        for finding in examine(self._history, self._facts):
            if finding.name not in self._found:
                self._report(step, finding)

    def close(self) -> None:
        """Writes the final `doctor.md`."""
        if self._active:
            page = _page(list(self._found.values()), self._history, self._facts)
            write_whole(self._workdir / DOCTOR, page)

    def _report(self, step: int, finding: Finding) -> None:
        self._found[finding.name] = finding
        if self._active:
            logging.warning("Doctor, step %d: %s", step, finding)
            self._noted[finding.name] = {"step": step} | dataclasses.asdict(finding)
            update_results(self._workdir, "doctor", {"findings": self._noted})
        self.close()


def _finding(noted: Mapping[str, Any]) -> Finding:
    fields = {name: value for name, value in noted.items() if name != "step"}
    return Finding(**fields | {"remedies": tuple(noted["remedies"])})


def _culprit(place: int, state: TrainState) -> str:
    """The name of the leaf that `FIRST_BAD` counts to."""
    trees = (
        ("params", state.params),
        ("batch_stats", state.batch_stats),
        ("gradients", state.params),
        ("params after the step", state.params),
    )
    names = [f"{kind}/{name}" for kind, tree in trees for name in named_leaves(tree)]
    return names[place] if place >= 0 else "the loss"


def nonfinite_leaves(tree: PyTree) -> list[str]:
    """Names of the leaves that hold a NaN or an infinity, in the tree's order."""
    leaves = {
        name: leaf
        for name, leaf in named_leaves(tree).items()
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }
    finite = jax.device_get({name: jnp.isfinite(leaf).all() for name, leaf in leaves.items()})
    return [name for name in leaves if not finite[name]]


def crop_statistics(
    crops: Sequence[UInt8[np.ndarray, "b _n _S _S 3"]],
) -> Float[np.ndarray, "b V 6"]:
    """Mean and standard deviation of each crop's colours, for at most LOOK_AT images."""
    pixels = [kind[:LOOK_AT].astype(np.float32) for kind in crops]
    moments = [np.concatenate([p.mean((2, 3)), p.std((2, 3))], axis=-1) for p in pixels]
    return np.concatenate(moments, axis=1)


def variance_ratio(moments: Float[np.ndarray, "b V 6"]) -> float:
    """Variance between images over variance between crops of an image (Fisher's F).

    1 +- sqrt(2 / (b - 1)) if images differ no more than crops of one image do, above 1 otherwise;
    1 of a single image.
    """
    images, views, _ = moments.shape
    if images == 1:
        return 1.0
    means = moments.mean(axis=1)
    between = views * means.var(axis=0, ddof=1)
    within = ((moments - means[:, None]) ** 2).sum((0, 1)) / (images * max(views - 1, 1))
    return float(np.mean(between / np.maximum(within, 1e-6)))


def _page(found: Sequence[Finding], history: History, facts: Facts) -> str:
    """The page `doctor.md`."""
    done = int(history.last["step"]) if history.last else 0
    page = [f"# Doctor's report after step {done} of {facts.sizes.total_steps}", ""]
    for finding in found:
        page += [f"## {finding.title}", "", finding.evidence, "", "Known to help:", ""]
        page += [*(f"- {remedy}" for remedy in finding.remedies), ""]
    page += ["## Checks" if found else "Nothing was found. These should hold:", ""]
    for rule in (rule for group in RULES for rule in group):
        healthy = (rule.judge.__doc__ or "").splitlines()[0]
        absent = "" if applies(rule, history) else f" (not checked: no {', '.join(rule.metrics)})"
        page.append(f"- {healthy}{absent}")
    return "\n".join(page) + "\n"
