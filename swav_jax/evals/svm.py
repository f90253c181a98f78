"""Linear SVMs on fixed features, one for each class against the others.

The protocol of VOC07 (Goyal et al., 2019, "Scaling and benchmarking self-supervised visual
representation learning"; Li et al., 2021, PCL): features of unit length, squared hinge loss with
an L2 penalty, its cost chosen by threefold cross-validation; low-shot with k images of each class
at that cost, over several draws. The solver is scikit-learn's LinearSVC (liblinear), as published.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Bool, Float, Int, Int8
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import LinearSVC

from swav_jax.data.sources.source import DataError
from swav_jax.evals.subset import balanced
from swav_jax.runtime.progress import progress

COSTS = 4.0 ** np.arange(-4, 7)  # 1/256 to 4096: features of small networks are nearly parallel
FOLDS = 3
CHOOSE_ON = 5000  # images at most that the cost of single labels is chosen on: as many as VOC07's
LOW_SHOT = (1, 2, 4, 8, 16)  # images of each class
DRAWS = 5
USUAL_COST = 0.5  # where there are too few images to choose one
ITERATIONS = 2000
POSITIVE_WEIGHT = 2.0  # of an image that shows the class against one that does not, as published

Figures = dict[str, float]


def accuracy(
    train_features: Float[np.ndarray, "N F"],
    train_labels: Int[np.ndarray, "N"],
    test_features: Float[np.ndarray, "M F"],
    test_labels: Int[np.ndarray, "M"],
    *,
    seed: int = 0,
) -> Figures:
    """Accuracy where every image has one class.

    Args:
      train_features: of the images to learn from, any length.
      train_labels: their classes; at least two.
      test_features: of the images to classify.
      test_labels: their classes.
      seed: of the draws, and of the part that the cost is chosen on.

    Returns:
      `top1` in percent, `cost`, and for each k of LOW_SHOT `low_shot_<k>` and its standard
      deviation over the draws, `low_shot_<k>_std`. A class with less than k images has all of them.
    """
    known, judged = unit(train_features), unit(test_features)
    some = balanced(train_labels, min(CHOOSE_ON / len(known), 1), seed)
    cost = cross_validated(known[some], train_labels[some], "accuracy")

    def top1(numbers: Any = slice(None)) -> float:
        model = _fitted(known[numbers], train_labels[numbers], cost)
        return 100 * float(np.mean(model.predict(judged) == test_labels))

    found = {"top1": top1(), "cost": cost}
    own = [train_labels == label for label in np.unique(train_labels)]
    few = [
        [
            top1(np.concatenate([_drawn(mask, k, random) for mask in own]))
            for random in _randoms(seed)
        ]
        for k in LOW_SHOT
    ]
    return found | _low_shot(np.array(few))


def mean_average_precision(
    train_features: Float[np.ndarray, "N F"],
    train_present: Int8[np.ndarray, "N C"],
    test_features: Float[np.ndarray, "M F"],
    test_present: Int8[np.ndarray, "M C"],
    *,
    seed: int = 0,
) -> Figures:
    """Mean average precision where an image may show several classes.

    Args:
      train_features: of the images to learn from, any length.
      train_present: 1 for the classes that they show, 0 for others; an image that is -1 for a class
        is neither learned from nor judged for it.
      test_features: of the images to rank.
      test_present: the same of them.
      seed: of the draws.

    Returns:
      `map` and `map_11point` in percent over `classes`: those of which there are images with and
      without in both parts. For each k of LOW_SHOT `low_shot_<k>`, the `map` of SVMs of k images
      with the class and k without it for each other class, and its standard deviation over the
      draws, `low_shot_<k>_std`.

    Raises:
      DataError: there is no such class.
    """
    known, judged = unit(train_features), unit(test_features)
    used = [
        number
        for number in range(train_present.shape[1])
        if all({0, 1} <= {*present[:, number]} for present in (train_present, test_present))
    ]
    if not used:
        raise DataError("of no class there are images with and without it in both parts")
    whole, few = [], []
    with progress("SVMs", len(used), unit="class") as now:
        for done, number in enumerate(used, start=1):
            learned, counted = train_present[:, number] >= 0, test_present[:, number] >= 0
            precisions, of_draws = _one_class(
                known[learned],
                train_present[learned, number] == 1,
                judged[counted],
                test_present[counted, number] == 1,
                others=len(used) - 1,
                seed=seed,
            )
            whole.append(precisions)
            few.append(of_draws)
            now(done)
    full, eleven = 100 * np.mean(whole, axis=0)
    found = {"map": float(full), "map_11point": float(eleven), "classes": len(used)}
    return found | _low_shot(100 * np.mean(few, axis=0))


def _one_class(
    known: Float[np.ndarray, "N F"],
    shown: Bool[np.ndarray, "N"],
    judged: Float[np.ndarray, "M F"],
    truth: Bool[np.ndarray, "M"],
    others: int,
    seed: int,
) -> tuple[list[float], Float[np.ndarray, "k draws"]]:
    """The full and the 11-point average precision, and the full one of each low-shot draw."""
    cost = cross_validated(known, shown, "average_precision", POSITIVE_WEIGHT)
    scores = _fitted(known, shown, cost, POSITIVE_WEIGHT).decision_function(judged)
    whole = [average_precision_score(truth, scores), eleven_point(truth, scores)]
    few = np.zeros((len(LOW_SHOT), DRAWS))
    for row, k in enumerate(LOW_SHOT):
        for column, random in enumerate(_randoms(seed)):
            numbers = [_drawn(shown, k, random), _drawn(~shown, k * max(others, 1), random)]
            chosen = np.concatenate(numbers)
            model = _fitted(known[chosen], shown[chosen], cost, POSITIVE_WEIGHT)
            few[row, column] = average_precision_score(truth, model.decision_function(judged))
    return whole, few


def cross_validated(
    features: Float[np.ndarray, "N F"],
    labels: Int[np.ndarray, "N"] | Bool[np.ndarray, "N"],
    scoring: str,
    weight: float = 1.0,
) -> float:
    """The cost with the best mean score over FOLDS, of equal ones the least.

    Args:
      features: of unit length.
      labels: classes; those with less than FOLDS images are left out.
      scoring: scikit-learn's name of the score.
      weight: of images with the label True.
    """
    classes, counts = np.unique(labels, return_counts=True)
    kept = np.isin(labels, classes[counts >= FOLDS])
    if len(np.unique(labels[kept])) < 2:
        logging.warning("too few images to choose a cost on: it is %g", USUAL_COST)
        return USUAL_COST
    search = GridSearchCV(
        _svc(1.0, weight), {"C": COSTS}, scoring=scoring, cv=StratifiedKFold(FOLDS), refit=False
    )
    with _as_far_as_it_comes():
        search.fit(features[kept], labels[kept])
    return float(search.best_params_["C"])


def eleven_point(truth: Bool[np.ndarray, "M"], scores: Float[np.ndarray, "M"]) -> float:
    """The average precision of VOC07 (Everingham et al., 2010, section 3.4.1), from 0 to 1.

    The mean, over the recalls r = 0, 0.1, ..., 1, of the highest precision at a recall of at least
    r.
    """
    curve = precision_recall_curve(truth, scores)
    precision, recall = (values[:-1] for values in curve[:2])  # the last is no image's
    levels = np.linspace(0, 1, 11) - 1e-9  # 3 / 10 is less than 0.3
    return float(np.mean([precision[recall >= level].max() for level in levels]))


def unit(features: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N F"]:
    """Rows of length one; the zero vector stays zero."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _svc(cost: float, weight: float = 1.0) -> Any:
    weights = None if weight == 1 else {True: weight}
    return LinearSVC(C=cost, class_weight=weights, dual="auto", max_iter=ITERATIONS, random_state=0)


def _fitted(features: Any, labels: Any, cost: float, weight: float = 1.0) -> LinearSVC:
    with _as_far_as_it_comes():
        return _svc(cost, weight).fit(features, labels)


@contextmanager
def _as_far_as_it_comes() -> Iterator[None]:
    """High costs need more than ITERATIONS; what is found by then is judged all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _randoms(seed: int) -> list[np.random.RandomState]:
    """One for each draw."""
    return [np.random.RandomState([seed, draw]) for draw in range(DRAWS)]


def _drawn(
    mask: Bool[np.ndarray, "N"], k: int, random: np.random.RandomState
) -> Int[np.ndarray, "n"]:
    """At most k numbers of those in a mask."""
    return random.permutation(np.flatnonzero(mask))[:k]


def _low_shot(scores: Float[np.ndarray, "k draws"]) -> Figures:
    found = {}
    for k, draws in zip(LOW_SHOT, scores, strict=True):
        found[f"low_shot_{k}"] = float(draws.mean())
        found[f"low_shot_{k}_std"] = float(draws.std())
    return found
