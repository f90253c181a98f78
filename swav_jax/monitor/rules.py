"""What can be wrong with a run: rules, pure functions of its metrics and of facts about it.

A rule asks for metrics, never for a method, so it applies to every method that logs them. `RULES`
lists them all.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ml_collections import ConfigDict

from swav_jax.methods.contract import Sizes
from swav_jax.monitor.history import FEW, RECENT, VITAL, History, Line, mean
from swav_jax.monitor.remedies import (
    CALMER,
    COARSER,
    COPIES,
    FEED,
    FEWER,
    LEARN,
    LESSONS,
    PAIRS,
    QUEUE,
    SHARPER,
    SOFTER,
    SPREAD,
    advice,
)

CLUSTERS = ("clusters_used", "largest_cluster")
PATIENCE = 2  # epochs after warm-up and freezing in which healthy losses still start above ln K
AT_CHANCE = 0.97  # of ln K; healthy runs pass it within the epochs of PATIENCE, stuck ones never
FLAT = 0.01  # of ln K over the recent lines; a loss that falls faster is still falling
UNIFORM = 0.95  # of ln K; codes start at 0.2 to 0.8 and pass a maximum while the loss nears ln K
ONE_HOT = 0.02  # of ln K; codes of sharp healthy runs stay above 0.05, hard ones have 0
COLLAPSED = 0.05  # spread of embeddings; it starts at 0.8, dips to 0.4 and rises in healthy runs
LOST = 0.75  # of the rank before training; healthy runs end at 1.7 times that, wild rates at 0.5
DEAD = 0.5  # of the prototypes that samples drawn at random would reach; balanced codes reach more
UNEVEN = 0.5  # of the images in one cluster, or of the clusters without an image
FOUND = 3.0  # times as often as by chance; healthy runs find a tenth and more of the pairs
RISE = 1.05  # of the earlier loss; harmful queues and rates raise it by 10 % and more
STARVED = 1 / 3  # of the time, the median line; the healthy runs that were recorded wait for 0.1
WILD_LR = {"larc": 20.0, "lars": 20.0, "sgd": 2.0}  # LARC at 20 turns weights by 2 % every step
FAR = 0.035  # of the parameters' norm in a step; runs that learnt moved 0.027 or less, others 0.042
LOOK_AT = 256  # images; the variance ratio of identical ones is then 1 +- 0.09
SIGMAS = 4.0  # of that ratio's scatter; handwritten digits, an unusually uniform set, are at 17


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a run."""

    name: str
    title: str
    evidence: str
    remedies: tuple[str, ...]

    def __str__(self) -> str:
        return "\n  - ".join([f"{self.title}. {self.evidence} Known to help:", *self.remedies])


@dataclass(frozen=True)
class Facts:
    """What is known about a run besides its metrics."""

    config: ConfigDict
    sizes: Sizes
    variance_ratio: float | None = None  # see `doctor.variance_ratio`; None before enough are seen
    random_rank: float | None = None  # RankMe of the network before training; None if not known

    @property
    def chance(self) -> float:
        """The loss of a prediction, and the entropy of a code, that hold no information: ln K."""
        return math.log(self.config.model.prototypes)

    @property
    def settled(self) -> int:
        """The step by which a healthy run has left its initial state."""
        config, epoch = self.config, self.sizes.steps_per_epoch
        frozen = config.method.get("freeze_prototypes_steps", 0)
        return round(max(frozen, config.optim.warmup_epochs * epoch) + PATIENCE * epoch)


def examine(history: History, facts: Facts) -> list[Finding]:
    """What is wrong now: of each group of RULES, the first that finds something."""
    found = []
    for group in RULES:
        for rule in group:
            evidence = rule.judge(history, facts) if applies(rule, history) else None
            if evidence:
                found.append(conclude(rule, evidence, facts))
                break
    return found


# ---- judgements: the evidence with its numbers and steps, or None -------------------------------


def not_finite(history: History, facts: Facts) -> str | None:
    """The loss and the gradient are finite."""
    line = history.first_bad
    if line is None:
        return None
    bad = [name for name in VITAL if not math.isfinite(line.get(name, 0.0))]
    return f"{' and '.join(bad)} became NaN or infinite in step {line['step']:.0f}."


def identical_images(history: History, facts: Facts) -> str | None:
    """Images differ more than crops of one image do."""
    ratio, images = facts.variance_ratio, min(LOOK_AT, facts.sizes.size)
    symptom = no_features(history, facts)
    if ratio is None or not symptom or ratio > 1 + SIGMAS * math.sqrt(2 / max(images - 1, 1)):
        return None
    return (
        f"{symptom} Crops of different images are as similar as crops of one: the variance between "
        f"{images} images is {ratio:.2f} times that within; copies of one image give 1."
    )


def wild_learning_rate(history: History, facts: Facts) -> str | None:
    """The learning rate lets the weights settle."""
    symptom = no_features(history, facts) or _loss_rises(history, facts)
    cause = wild_rate(facts) or _far_steps(history, facts)
    return symptom + cause if symptom and cause else None


def _far_steps(history: History, facts: Facts) -> str:
    lines = _late(history, facts, "update_norm", "parameter_norm")
    share = mean(lines, "update_norm") / max(mean(lines, "parameter_norm"), 1e-9)
    if share < FAR:
        return ""
    return (
        f" Each step moves the parameters by {share:.1%} of their norm; nothing settles from "
        f"{FAR:.1%} on. optim.base_lr is {facts.config.optim.base_lr:g}."
    )


def wild_rate(facts: Facts) -> str:
    """What is wrong with the learning rate, if it is."""
    lr, name = facts.config.optim.base_lr, facts.config.optim.name
    limit = WILD_LR.get(name, math.inf)
    if lr < limit:
        return ""
    return f" optim.base_lr is {lr:g}; with {name}, weights do not settle from {limit:g} on."


def more_prototypes_than_images(history: History, facts: Facts) -> str | None:
    """There are no more prototypes than images."""
    prototypes, images = facts.config.model.prototypes, facts.sizes.size
    lines = history.recent("prototypes_used")[-RECENT:]
    if len(lines) < FEW or prototypes <= images:
        return None
    return (
        f"Of {prototypes} prototypes for {images} images {prototypes - images} or more are dead; "
        f"a batch of {facts.sizes.batch_size} uses {mean(lines, 'prototypes_used'):.2%}."
    )


def uniform_codes(history: History, facts: Facts) -> str | None:
    """The codes prefer some prototypes to others."""
    lines = _late(history, facts, "code_entropy")
    entropy = mean(lines, "code_entropy")
    if not lines or entropy < UNIFORM * facts.chance:
        return None
    return f"Code entropy is {entropy:.3f} nats of at most ln K = {facts.chance:.3f}{_span(lines)}"


def one_hot_codes(history: History, facts: Facts) -> str | None:
    """Soft codes share an image among prototypes."""
    lines = _late(history, facts, "code_entropy")
    entropy = mean(lines, "code_entropy")
    hard = facts.config.method.get("hard_codes", False)
    if not lines or hard or entropy > ONE_HOT * facts.chance:
        return None
    return f"Code entropy is {entropy:.3g} nats, where one prototype an image gives 0{_span(lines)}"


def collapsed_embedding(history: History, facts: Facts) -> str | None:
    """The embeddings of different images differ."""
    lines = _late(history, facts, "embedding_std")
    spread = mean(lines, "embedding_std")
    if not lines or spread > COLLAPSED:
        return None
    return f"The embeddings' spread is {spread:.2g}, where 0 is a point and 1 even{_span(lines)}"


def collapsed_features(history: History, facts: Facts) -> str | None:
    """The features use more directions than those of the network before training."""
    lines = [line for line in history.recent("quality_rankme") if line["step"] >= facts.settled]
    if not lines or facts.random_rank is None:
        return None
    rank = lines[-1]["quality_rankme"]
    if rank > LOST * facts.random_rank:
        return None
    return (
        f"The effective rank of the features (RankMe) is {rank:.3g}, and was "
        f"{facts.random_rank:.3g} before training{_span(lines[-1:])}"
    )


def dead_prototypes(history: History, facts: Facts) -> str | None:
    """A batch uses most of the prototypes that it can reach."""
    batch, prototypes = facts.sizes.batch_size, facts.config.model.prototypes
    lines, reachable = _late(history, facts, "prototypes_used"), 1 - math.exp(-batch / prototypes)
    used = mean(lines, "prototypes_used")
    if not lines or used > DEAD * reachable:
        return None
    return (
        f"{used:.2%} of the {prototypes} prototypes are used, where a batch of {batch} would reach "
        f"{reachable:.2%} at random{_span(lines)}"
    )


def stuck(history: History, facts: Facts) -> str | None:
    """The loss falls below ln K, that of a uniform prediction."""
    lines = _late(history, facts, "loss", "code_entropy")  # codes: the loss is over K prototypes
    half = len(lines) // 2
    earlier, later = mean(lines[:half], "loss"), mean(lines[half:], "loss")
    falls = earlier - later > FLAT * facts.chance
    if not lines or falls or later < AT_CHANCE * facts.chance:
        return None
    return f"The loss stays at {later:.3f} where ln K = {facts.chance:.3f}{_span(lines)}"


def clusters_not_learnt(history: History, facts: Facts) -> str | None:
    """Clusters are predicted better than by chance."""
    lines = _late(history, facts, "loss", "cluster_accuracy")
    loss = mean(lines, "loss")
    if not lines or loss < AT_CHANCE * facts.chance:
        return None
    return f"The loss stays at {loss:.3f} where ln K = {facts.chance:.3f}{_span(lines)}"


def uneven_clusters(history: History, facts: Facts) -> str | None:
    """Clusters are used, and none has most of the images."""
    lines = [line for line in history.recent(*CLUSTERS) if line["step"] >= facts.settled][-3:]
    used, largest = (mean(lines, name) for name in CLUSTERS)
    if len(lines) < 3 or (used > UNEVEN and largest < UNEVEN):
        return None
    return f"{used:.0%} of the clusters are used, the largest has {largest:.0%}{_span(lines)}"


def positives_not_found(history: History, facts: Facts) -> str | None:
    """An image's other crop is found among crops of others more often than by chance."""
    lines = _late(history, facts, "positive_accuracy")
    accuracy = mean(lines, "positive_accuracy")
    in_batch = facts.sizes.views * (facts.sizes.batch_size - 1)
    candidates = facts.config.method.get("queue_length", in_batch) + 1
    if not lines or accuracy > FOUND / candidates:
        return None
    return (
        f"{accuracy:.2%} of the other crops are found among {candidates} candidates, where a guess "
        f"finds {1 / candidates:.2%}{_span(lines)}"
    )


def no_features(history: History, facts: Facts) -> str | None:
    """Codes, embeddings and features differ between images, and the loss is below chance."""
    judges = (uniform_codes, collapsed_embedding, collapsed_features, stuck)
    symptoms = (judge(history, facts) for judge in judges)
    return next(filter(None, symptoms), None)


def _loss_rises(history: History, facts: Facts) -> str | None:
    recent, best = _late(history, facts, "loss")[-FEW:], history.best
    if not recent or not best:
        return None
    old, new = mean(best, "loss"), mean(recent, "loss")
    if new < RISE * old:
        return None
    return f"The mean loss rose from {old:.3f}{_span(best)[:-1]} to {new:.3f}{_span(recent)}"


def queue_hurts(history: History, facts: Facts) -> str | None:
    """The loss does not rise once the queue is used."""
    before, recent, began = history.before_queue, history.with_queue, history.queue_began
    if len(before) < FEW or len(recent) < FEW or began is None:
        return None
    start, old, new = began["step"], mean(before, "loss"), mean(recent, "loss")
    if recent[-1]["step"] - start < facts.sizes.steps_per_epoch or new < RISE * old:
        return None
    return (
        f"The mean loss was {old:.3f} before the queue came into use at step {start:.0f}, and is "
        f"{new:.3f} with it{_span(recent)}"
    )


def starved(history: History, facts: Facts) -> str | None:
    """Training does not wait for data."""
    lines = history.recent("data_wait_share")[1:]  # the run's first line holds compilation
    if len(lines) < RECENT:
        return None
    share = statistics.median(line["data_wait_share"] for line in lines)  # ignores one slow line
    if share < STARVED:
        return None
    evidence = f"{share:.0%} of the time is spent waiting{_span(lines)}"
    stages = {"read_seconds", "crop_seconds"}
    if timed := [line for line in lines if line.keys() >= stages]:
        read, crop = (1e3 * mean(timed, name) for name in ("read_seconds", "crop_seconds"))
        evidence += (
            f" The slow stage is {'reading and decoding' if read > crop else 'cropping'}: for each "
            f"image a thread reads and decodes for {read:.3g} ms and crops for {crop:.3g} ms."
        )
    return evidence


class Rule(NamedTuple):
    """A check for runs that log its metrics; `judge`'s docstring begins with what should hold."""

    title: str
    judge: Callable[[History, Facts], str | None]
    metrics: tuple[str, ...]
    remedies: tuple[str, ...]  # see `swav_jax/monitor/remedies.py`


NOT_FINITE = Rule("The loss or gradient is not finite", not_finite, ("loss",), CALMER)
# The rules of a group explain the same symptoms, from definite causes to the bare symptom.
RULES: tuple[tuple[Rule, ...], ...] = (
    (NOT_FINITE,),
    (
        Rule("The images do not differ", identical_images, ("embedding_std",), COPIES),
        Rule("The learning rate is too high", wild_learning_rate, ("lr",), CALMER[:1]),
        Rule(
            "There are more prototypes than images",
            more_prototypes_than_images,
            ("prototypes_used",),
            FEWER[:1],
        ),
        Rule("The queue makes the loss rise", queue_hurts, ("loss", "queue_used"), QUEUE),
        Rule("The codes are uniform", uniform_codes, ("code_entropy",), SHARPER),
        Rule("The codes have collapsed to one-hot", one_hot_codes, ("code_entropy",), SOFTER),
        Rule(
            "The embeddings have collapsed to a point",
            collapsed_embedding,
            ("embedding_std",),
            SPREAD,
        ),
        Rule("The features have lost rank", collapsed_features, ("quality_rankme",), SPREAD),
        Rule("Most prototypes are dead", dead_prototypes, ("prototypes_used",), FEWER),
        Rule("The loss is stuck at ln K", stuck, ("loss", "code_entropy"), LEARN),
        Rule("The clusters are uneven", uneven_clusters, CLUSTERS, COARSER),
        Rule("The clusters are not learnt", clusters_not_learnt, ("cluster_accuracy",), LESSONS),
        Rule("Crops are not recognised", positives_not_found, ("positive_accuracy",), PAIRS),
    ),
    (Rule("Training waits for data", starved, ("data_wait_share",), FEED),),
)


def conclude(rule: Rule, evidence: str, facts: Facts) -> Finding:
    """The finding of a rule on this evidence, with the remedies that this run can take."""
    remedies = (advice(remedy, facts.config, facts.sizes) for remedy in rule.remedies)
    return Finding(rule.judge.__name__, rule.title, evidence, tuple(filter(None, remedies)))


# ---- lines --------------------------------------------------------------------------------------


def _late(history: History, facts: Facts, *names: str) -> list[Line]:
    """The recent lines with these metrics, once there are a few after the run has settled."""
    lines = [line for line in history.recent(*names) if line["step"] >= facts.settled]
    return lines[-RECENT:] if len(lines) >= FEW else []


def _span(lines: Sequence[Line]) -> str:
    first, last = (f"{lines[i]['step']:.0f}" for i in (0, -1))
    return f" (step {last})." if first == last else f" (steps {first} to {last})."


def applies(rule: Rule, history: History) -> bool:
    """Whether every metric that the rule asks for was ever logged."""
    return history.names.issuperset(rule.metrics)
