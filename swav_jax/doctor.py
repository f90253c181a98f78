"""The doctor reads a run's metrics while it trains, names what is wrong and says what helps.

Every rule is a pure function of the metrics so far and the run's facts. It asks only for metrics,
so it holds for every method that logs them; `RULES` lists them all.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float, PyTree, UInt8
from ml_collections import ConfigDict

from swav_jax.methods.contract import Run

Line = Mapping[str, float]  # what was logged after a step: `step` and metrics by name
History = Sequence[Line]

VITAL = ("loss", "gradient_norm")  # other metrics may be undefined for good reasons
FEW, RECENT = 4, 10  # lines: fewer than FEW are an accident; RECENT ones tell what is going on now
PATIENCE = 2  # epochs after warm-up and freezing in which healthy losses still start above ln K
AT_CHANCE = 0.97  # of ln K; healthy runs pass it within the epochs of PATIENCE, stuck ones never
FLAT = 0.01  # of ln K over the recent lines; a loss that falls faster is still on its way down
UNIFORM = 0.95  # of ln K; healthy codes are at 0.8 before training and only get sharper
COLLAPSED = 0.1  # spread of embeddings; untrained networks have 0.3 to 0.8, healthy ones more
DEAD = 0.5  # of the prototypes that samples drawn at random would reach; balanced codes reach more
RISE = 1.05  # of the loss before the queue; reported failures rose by 10 % and more
STARVED = 0.25  # of the time; less than this buys little, and one slow line is no finding
WILD_LR = {"larc": 20.0, "lars": 20.0, "sgd": 2.0}  # LARC at 20 turns weights by 2 % every step
LOOK_AT = 256  # images; the variance ratio of identical ones is then 1 +- 0.09
SIGMAS = 4.0  # of that ratio's scatter; handwritten digits, an unusually uniform set, are at 14


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a run."""

    name: str
    title: str
    evidence: str
    remedies: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """What is known of a run besides its metrics."""

    config: ConfigDict
    run: Run
    variance_ratio: float | None = None  # see `variance_ratio`

    @property
    def chance(self) -> float:
        """Loss of a prediction that knows nothing: ln K."""
        return math.log(self.config.model.prototypes)

    @property
    def settled(self) -> int:
        """The step from which a healthy run has left the state it began in."""
        config, epoch = self.config, self.run.steps_per_epoch
        frozen = config.method.get("freeze_prototypes_steps", 0)
        return round(max(frozen, config.optim.warmup_epochs * epoch) + PATIENCE * epoch)


class Diverged(RuntimeError):
    """Training met numbers that are not finite; the message says where and what to do."""


class Doctor:
    """Watches one run; silent on all hosts but the first.

    Args:
      workdir: of the run; the metrics that its `metrics.jsonl` already has are taken up.
      config: of the run.
      run: its sizes.
      active: whether this host writes and speaks.
    """

    def __init__(self, workdir: Path, config: ConfigDict, run: Run, *, active: bool = True):
        self._workdir, self._active = workdir, active
        self._facts = Facts(config, run)
        path = workdir / "metrics.jsonl"
        lines = path.read_text().splitlines() if active and path.exists() else []
        self._history: list[Line] = [json.loads(line) for line in lines]
        self._found: dict[str, tuple[int, Finding]] = {}
        self._seen: list[np.ndarray] | None = []  # statistics of crops; None after the judgement

    def look(self, crops: Sequence[UInt8[np.ndarray, "b n S S 3"]]) -> None:
        """Notes, from the first batches, whether the images differ."""
        if self._seen is None:
            return
        self._seen.append(crop_statistics(crops))
        if sum(map(len, self._seen)) >= min(LOOK_AT, self._facts.run.size):
            ratio = variance_ratio(np.concatenate(self._seen))
            self._facts = dataclasses.replace(self._facts, variance_ratio=ratio)
            self._seen = None

    def check(self, step: int, metrics: Mapping[str, Any], state: PyTree) -> None:
        """Stops a run whose loss or gradient is not finite.

        Every host calls it for every step, before a checkpoint of that step's state is made: so
        all checkpoints are good ones.

        Args:
          step: that gave the metrics.
          metrics: of one step.
          state: the train state of that step or one later.

        Raises:
          Diverged: what was not finite first, and the last good checkpoint.
        """
        line = jax.device_get({name: metrics[name] for name in VITAL if name in metrics})
        finding = not_finite([{"step": step} | line], self._facts)
        if finding is None:
            return
        tensors = first_nonfinite(state)
        named = ", ".join(tensors[:3]) + (f" and {len(tensors) - 3} more" * (len(tensors) > 3))
        folder = self._workdir / "checkpoints"
        steps = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
        good = max((s for s in steps if s <= step), default=None)
        evidence = (
            f"{finding.evidence} First tensors: {named or 'none, the state itself is finite'}. "
            f"Last good checkpoint: {'none' if good is None else folder / str(good)}."
        )
        finding = dataclasses.replace(finding, evidence=evidence)
        self._tell(step, finding)
        raise Diverged(_text(finding))

    def observe(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Takes up a logged line and tells what is found for the first time."""
        if not self._active:
            return
        self._history.append({"step": step} | {k: float(v) for k, v in metrics.items()})
        for finding in examine(self._history, self._facts):
            if finding.name not in self._found:
                self._tell(step, finding)

    def close(self) -> None:
        """Writes the final `doctor.md`."""
        self._write()

    def _tell(self, step: int, finding: Finding) -> None:
        self._found[finding.name] = step, finding
        if self._active:
            logging.warning("Doctor, step %d: %s", step, _text(finding))
        self._write()

    def _write(self) -> None:
        if self._active:
            found = list(self._found.values())
            report = _report(found, self._history, self._facts)
            (self._workdir / "doctor.md").write_text(report)


def examine(history: History, facts: Facts) -> list[Finding]:
    """What is wrong with a run now; of each group of RULES the first rule that finds something."""
    found = []
    for group in RULES:
        findings = (rule.judge(history, facts) for rule in group if _applies(rule, history))
        found += [next((finding for finding in findings if finding), None)]
    return [finding for finding in found if finding]


def first_nonfinite(tree: PyTree) -> list[str]:
    """Names of the leaves that hold a NaN or an infinity, in the tree's order."""
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }
    finite = jax.device_get({name: jnp.isfinite(leaf).all() for name, leaf in leaves.items()})
    return [name for name in leaves if not finite[name]]


def crop_statistics(crops: Sequence[UInt8[np.ndarray, "b n S S 3"]]) -> Float[np.ndarray, "b V 6"]:
    """Mean and standard deviation of each crop's colours."""
    pixels = [kind[:LOOK_AT].astype(np.float32) for kind in crops]
    moments = [np.concatenate([p.mean((2, 3)), p.std((2, 3))], axis=-1) for p in pixels]
    return np.concatenate(moments, axis=1)


def variance_ratio(statistics: Float[np.ndarray, "b V 6"]) -> float:
    """Variance between images over variance between crops of an image (Fisher's F).

    1 +- sqrt(2 / (b - 1)) if images differ no more than crops of one image do, above 1 otherwise.
    """
    images, views, _ = statistics.shape
    means = statistics.mean(axis=1)
    between = views * means.var(axis=0, ddof=1)
    within = ((statistics - means[:, None]) ** 2).sum((0, 1)) / (images * max(views - 1, 1))
    return float(np.mean(between / np.maximum(within, 1e-6)))


# ---- rules --------------------------------------------------------------------------------------


def not_finite(history: History, facts: Facts) -> Finding | None:
    """The loss and the gradient are finite numbers."""
    for line in history:
        bad = [name for name in VITAL if name in line and not math.isfinite(line[name])]
        if bad:
            return Finding(
                "not_finite",
                "Training met numbers that are not finite",
                f"{' and '.join(bad)} of step {line['step']:.0f} became NaN or infinite.",
                _those(_lower_lr(facts), _float32(facts)),
            )
    return None


def identical_images(history: History, facts: Facts) -> Finding | None:
    """Images differ more than crops of one image do."""
    symptom = _symptom(history, facts)
    if facts.variance_ratio is None or not symptom:
        return None
    images = min(LOOK_AT, facts.run.size)
    if facts.variance_ratio > 1 + SIGMAS * math.sqrt(2 / (images - 1)):
        return None
    return Finding(
        "identical_images",
        "The images do not differ",
        f"Crops of different images are as alike as crops of one image (variance ratio "
        f"{facts.variance_ratio:.2f} over {images} images, 1 for copies of one image), and "
        f"{symptom}.",
        (
            "look at the images: are they copies, blank, or all broken in the same way? "
            f"(data.name={facts.config.data.name!r}, data.data_dir={facts.config.data.data_dir!r})",
            *_those(_softer_crops(facts)),
        ),
    )


def wild_learning_rate(history: History, facts: Facts) -> Finding | None:
    """The learning rate lets the weights settle."""
    symptom, optim = _symptom(history, facts), facts.config.optim
    limit = WILD_LR.get(optim.name, math.inf)
    if not symptom or optim.base_lr < limit:
        return None
    return Finding(
        "learning_rate",
        "The learning rate is too high",
        f"optim.base_lr is {optim.base_lr:g}, and from about {limit:g} on {optim.name} turns the "
        f"weights faster than they can settle; {symptom}.",
        _those(_lower_lr(facts)),
    )


def too_many_prototypes(history: History, facts: Facts) -> Finding | None:
    """There are fewer prototypes than images."""
    prototypes, images = facts.config.model.prototypes, facts.run.size
    lines = _with(history, "prototypes_used")[-RECENT:]
    if len(lines) < FEW or prototypes <= images:
        return None
    return Finding(
        "too_many_prototypes",
        "There are more prototypes than images",
        f"model.prototypes is {prototypes} for {images} images: at least "
        f"{prototypes - images} prototypes stay dead, and a batch uses "
        f"{_mean(lines, 'prototypes_used'):.2%} of them ({_span(lines)}).",
        _those(_fewer_prototypes(facts)),
    )


def uniform_codes(history: History, facts: Facts) -> Finding | None:
    """The codes prefer some prototypes to others."""
    evidence = _codes_uniform(history, facts)
    return evidence and Finding(
        "uniform_codes",
        "The codes are uniform: all prototypes are equal to every sample",
        f"{evidence[0].upper()}{evidence[1:]}.",
        _those(_lower_epsilon(facts), _freeze_longer(facts), _softer_crops(facts)),
    )


def collapsed_embedding(history: History, facts: Facts) -> Finding | None:
    """The embeddings of different images differ."""
    evidence = _collapsed(history, facts)
    return evidence and Finding(
        "collapsed_embedding",
        "The embeddings have collapsed to a point",
        f"{evidence[0].upper()}{evidence[1:]}.",
        _those(_lower_lr(facts), _lower_epsilon(facts), _softer_crops(facts), LOOK),
    )


def dead_prototypes(history: History, facts: Facts) -> Finding | None:
    """Most prototypes that a batch can reach are some sample's first choice."""
    run, prototypes = facts.run, facts.config.model.prototypes
    lines = _late(history, facts, "prototypes_used")
    used, reachable = _mean(lines, "prototypes_used"), 1 - math.exp(-run.batch_size / prototypes)
    if not lines or used > DEAD * reachable:
        return None
    residual = _mean(_late(history, facts, "marginal_residual"), "marginal_residual")
    return Finding(
        "dead_prototypes",
        "Most prototypes are dead",
        f"A batch of {run.batch_size} uses {used:.2%} of the {prototypes} prototypes "
        f"({_span(lines)}); samples drawn at random would use {reachable:.2%}."
        + (f" The codes' marginals are off by {residual:.2g}." if residual else ""),
        _those(_fewer_prototypes(facts), _more_iterations(facts), _freeze_longer(facts)),
    )


def stuck(history: History, facts: Facts) -> Finding | None:
    """The loss falls below ln K, that of a prediction that knows nothing."""
    evidence = _at_chance(history, facts)
    return evidence and Finding(
        "stuck",
        "The loss is stuck at ln K",
        f"{evidence[0].upper()}{evidence[1:]}.",
        _those(
            _lower_epsilon(facts),
            _freeze_longer(facts),
            _fewer_prototypes(facts),
            _softer_crops(facts),
            _lower_lr(facts),
            LOOK,
        ),
    )


def queue_hurts(history: History, facts: Facts) -> Finding | None:
    """The loss does not rise when the queue comes into use."""
    lines = _with(history, "loss", "queue_used")
    before = [line for line in lines if not line["queue_used"]][-RECENT:]
    after = [line for line in lines if line["queue_used"]]
    if len(before) < FEW or len(after) < FEW:
        return None
    waited, recent = after[-1]["step"] - after[0]["step"], after[-RECENT:]
    old, new = _mean(before, "loss"), _mean(recent, "loss")
    if waited < facts.run.steps_per_epoch or new < RISE * old:
        return None
    return Finding(
        "queue",
        "The queue makes the loss rise",
        f"The mean loss was {old:.3f} ({_span(before)}) before the queue came into use at step "
        f"{after[0]['step']:.0f}, and is {new:.3f} ({_span(recent)}) with it.",
        _those(_later_queue(facts), _smaller_queue(facts)),
    )


def starved(history: History, facts: Facts) -> Finding | None:
    """Training does not wait for data."""
    lines = _with(history, "data_wait_share")[1:][-RECENT:]  # the first line holds compilation
    share = _mean(lines, "data_wait_share")
    if len(lines) < FEW or share < STARVED:
        return None
    evidence = f"Training waits for data {share:.0%} of the time ({_span(lines)})."
    remedies = [_more_threads(facts), "train on a host with more CPU cores"]
    timed = _with(lines, "read_seconds", "crop_seconds")
    if timed:
        read, crop = _mean(timed, "read_seconds"), _mean(timed, "crop_seconds")
        slow = "reading and decoding" if read > crop else "cropping"
        evidence += (
            f" The slow stage is {slow}: a thread spends {1e3 * read:.3g} ms an image on reading "
            f"and decoding and {1e3 * crop:.3g} ms on cropping."
        )
        remedies += [
            "store smaller images on a faster disk (a shorter side of 256 pixels serves 224)"
            if read > crop
            else "cut fewer or smaller crops (data.crops)"
        ]
    return Finding("starved", "Training waits for data", evidence, _those(*remedies))


class Rule(NamedTuple):
    """A check: its docstring says how it should be; it applies where all its metrics exist."""

    judge: Callable[[History, Facts], Finding | None]
    metrics: tuple[str, ...]


# The rules of a group explain the same symptoms; they go from definite causes to the bare symptom.
RULES: tuple[tuple[Rule, ...], ...] = (
    (Rule(not_finite, ("loss",)),),
    (
        Rule(identical_images, ("embedding_std",)),
        Rule(wild_learning_rate, ("lr",)),
        Rule(too_many_prototypes, ("prototypes_used",)),
        Rule(uniform_codes, ("code_entropy",)),
        Rule(collapsed_embedding, ("embedding_std",)),
        Rule(dead_prototypes, ("prototypes_used",)),
        Rule(stuck, ("loss", "code_entropy")),
    ),
    (Rule(queue_hurts, ("loss", "queue_used")),),
    (Rule(starved, ("data_wait_share",)),),
)


# ---- symptoms: evidence, or None ----------------------------------------------------------------


def _symptom(history: History, facts: Facts) -> str | None:
    return (
        _codes_uniform(history, facts) or _collapsed(history, facts) or _at_chance(history, facts)
    )


def _codes_uniform(history: History, facts: Facts) -> str | None:
    lines = _late(history, facts, "code_entropy")
    entropy = _mean(lines, "code_entropy")
    if not lines or entropy < UNIFORM * facts.chance:
        return None
    return f"the codes' entropy is {entropy:.3f} of at most ln K = {facts.chance:.3f} nats " + (
        f"({_span(lines)})"
    )


def _collapsed(history: History, facts: Facts) -> str | None:
    lines = _late(history, facts, "embedding_std")
    spread = _mean(lines, "embedding_std")
    if not lines or spread > COLLAPSED:
        return None
    return f"the embeddings' spread over a batch is {spread:.2g} of at most 1 ({_span(lines)})"


def _at_chance(history: History, facts: Facts) -> str | None:
    lines = _late(history, facts, "loss", "code_entropy")  # codes: the loss is over K prototypes
    half = len(lines) // 2
    earlier, later = _mean(lines[:half], "loss"), _mean(lines[half:], "loss")
    falls = earlier - later > FLAT * facts.chance
    if not lines or falls or later < AT_CHANCE * facts.chance:
        return None
    return f"the loss stays at {later:.3f} where ln K = {facts.chance:.3f} ({_span(lines)})"


# ---- remedies: in terms of the keys that the run's config has, or None --------------------------

LOOK = "check that the images differ and are what you expect"


def _lower_epsilon(facts: Facts) -> str | None:
    if "epsilon" not in facts.config.method:
        return None
    return _set(facts, "method.epsilon", min(0.05, _round(facts.config.method.epsilon / 2.5)))


def _freeze_longer(facts: Facts) -> str | None:
    if "freeze_prototypes_steps" not in facts.config.method:
        return None
    longer = max(2 * facts.config.method.freeze_prototypes_steps, facts.run.steps_per_epoch)
    return _set(facts, "method.freeze_prototypes_steps", min(longer, facts.run.total_steps // 2))


def _fewer_prototypes(facts: Facts) -> str:
    shards, prototypes = facts.config.mesh.model, facts.config.model.prototypes
    fewer = max(min(prototypes // 2, facts.run.size // 20), 2)
    return _set(facts, "model.prototypes", -(-fewer // shards) * shards)


def _more_iterations(facts: Facts) -> str | None:
    if "sinkhorn_iterations" not in facts.config.method:
        return None
    more = 3 * facts.config.method.sinkhorn_iterations
    return _set(facts, "method.sinkhorn_iterations", more)


def _softer_crops(facts: Facts) -> str:
    softer = tuple((n, size, min(2 * a, b), b) for n, size, a, b in facts.config.data.crops)
    return _set(facts, "data.crops", softer)


def _lower_lr(facts: Facts) -> str:
    """Down to what the published 0.6 at batch 256 and 4.8 at 4096 suggest for LARC, or a quarter."""
    optim, batch = facts.config.optim, facts.run.batch_size
    usual = 0.6 * (batch / 256) ** 0.75 if optim.name == "larc" else math.inf
    lower = usual if usual < optim.base_lr / 2 else optim.base_lr / 4
    return _set(facts, "optim.base_lr", _round(lower))


def _float32(facts: Facts) -> str | None:
    wide = facts.config.model.dtype in ("float32", "float64")
    return None if wide else _set(facts, "model.dtype", "float32")


def _later_queue(facts: Facts) -> str | None:
    if "queue_start_epoch" not in facts.config.method:
        return None
    later = 2 * max(facts.config.method.queue_start_epoch, 1)
    return _set(facts, "method.queue_start_epoch", later)


def _smaller_queue(facts: Facts) -> str | None:
    if "queue_length" not in facts.config.method:
        return None
    batch = facts.run.batch_size
    return _set(
        facts, "method.queue_length", facts.config.method.queue_length // 2 // batch * batch
    )


def _more_threads(facts: Facts) -> str | None:
    """0 threads are as many as there are cores; more do not help."""
    return _set(facts, "data.threads", 0) if facts.config.data.threads else None


def _set(facts: Facts, key: str, value: Any) -> str:
    old = facts.config
    for part in key.split("."):
        old = old[part]
    shown = f'"{value}"' if isinstance(value, tuple) else value
    return f"`--config.{key}={shown}` (now {old})"


def _those(*remedies: str | None) -> tuple[str, ...]:
    return tuple(remedy for remedy in remedies if remedy)


def _round(value: float) -> float:
    return float(f"{value:.2g}")


# ---- lines and pages ----------------------------------------------------------------------------


def _with(history: History, *names: str) -> list[Line]:
    return [line for line in history if all(math.isfinite(line.get(n, math.nan)) for n in names)]


def _late(history: History, facts: Facts, *names: str) -> list[Line]:
    """The recent lines with these metrics, once there are a few after the run has settled."""
    lines = [line for line in _with(history, *names) if line["step"] >= facts.settled]
    return lines[-RECENT:] if len(lines) >= FEW else []


def _mean(lines: Sequence[Line], name: str) -> float:
    return sum(line[name] for line in lines) / max(len(lines), 1)


def _span(lines: Sequence[Line]) -> str:
    return f"steps {lines[0]['step']:.0f} to {lines[-1]['step']:.0f}"


def _applies(rule: Rule, history: History) -> bool:
    return all(any(name in line for line in history) for name in rule.metrics)


def _text(finding: Finding) -> str:
    return "\n  - try ".join([f"{finding.title}. {finding.evidence}", *finding.remedies])


def _report(found: list[tuple[int, Finding]], history: History, facts: Facts) -> str:
    """The page `doctor.md`."""
    done = int(history[-1]["step"]) + 1 if history else 0
    page = [f"# Doctor's report after step {done} of {facts.run.total_steps}", ""]
    for step, finding in found:
        page += [f"## {finding.title}", "", f"{finding.evidence} (Found at step {step}.)", ""]
        page += ["Known to help:", "", *(f"- {remedy}" for remedy in finding.remedies), ""]
    if not found:
        page += ["Nothing was found.", ""]
    page += ["## Checks", ""]
    for rule in (rule for group in RULES for rule in group):
        note = "" if _applies(rule, history) else f" (not made: no {', '.join(rule.metrics)})"
        page.append(f"- {(rule.judge.__doc__ or '').splitlines()[0]}{note}")
    return "\n".join(page) + "\n"
