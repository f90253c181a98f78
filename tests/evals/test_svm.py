import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.svm import LinearSVC

from swav_jax.data.sources.source import DataError
from swav_jax.evals import svm


@pytest.fixture(autouse=True)
def few_fits(monkeypatch):
    monkeypatch.setattr(svm, "COSTS", np.array([0.01, 100.0]))
    monkeypatch.setattr(svm, "LOW_SHOT", (1, 4))
    monkeypatch.setattr(svm, "DRAWS", 3)


def one_class_each(count, seed, classes=4, width=8):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    rows = centres[labels] + rng.normal(size=(count, width))
    return rows * rng.uniform(0.1, 10, (count, 1)), labels  # lengths must not matter


def several_classes(count, seed, classes=3, width=6):
    rng = np.random.default_rng(seed)
    axes = np.random.default_rng(98).normal(size=(width, classes))
    rows = rng.normal(size=(count, width))
    scores = rows @ axes + rng.normal(size=(count, classes))
    present = (scores > 1).astype(np.int8)
    present[np.abs(scores - 1) < 0.3] = -1
    return rows, present


def test_accuracy_is_scikit_learns_with_the_chosen_cost():
    train, test = one_class_each(120, seed=0), one_class_each(90, seed=1)
    found = svm.accuracy(*train, *test)
    x, asked = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows, _ in (train, test))
    theirs = LinearSVC(C=found["cost"]).fit(x, train[1])
    assert found["top1"] == pytest.approx(100 * theirs.score(asked, test[1]), abs=0.6)
    assert 25 < found["low_shot_1"] < found["low_shot_4"] < found["top1"]
    assert found["low_shot_1_std"] > 0
    assert found == svm.accuracy(*train, *test)
    assert found["low_shot_1"] != svm.accuracy(*train, *test, seed=1)["low_shot_1"]


def test_low_shot_takes_k_images_of_each_class():
    rows, labels = one_class_each(60, seed=0)
    first = [np.flatnonzero(labels == label)[:4] for label in range(4)]
    few = np.concatenate(first)
    found = svm.accuracy(rows[few], labels[few], *one_class_each(50, seed=1))
    assert found["low_shot_4_std"] == 0  # there are just four: each draw is the same
    assert found["low_shot_1_std"] > 0


def test_the_cost_is_the_one_that_does_best_on_other_folds():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    clear = svm.unit(np.stack([labels - 0.5, 0.1 * rng.normal(size=60)], axis=1))
    assert svm.cross_validated(clear, labels, "accuracy") == 0.01  # both are right: the least
    # One image in ten says little by its first entry, which a low cost does not believe.
    rare = rng.permutation(60) < 6
    hidden = svm.unit(np.stack([0.5 * rare, np.ones(60)], axis=1))
    assert svm.cross_validated(hidden, rare, "accuracy", weight=2.0) == 100
    assert svm.cross_validated(clear[:3], np.array([0, 1, 1]), "accuracy") == svm.USUAL_COST


def test_mean_average_precision_is_scikit_learns_of_what_counts():
    train, test = several_classes(150, seed=0), several_classes(120, seed=1)
    found = svm.mean_average_precision(*train, *test)
    x, asked = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows, _ in (train, test))
    expected = []
    for number in range(3):
        learned, counted = train[1][:, number] >= 0, test[1][:, number] >= 0
        y = train[1][learned, number]
        cost = svm.cross_validated(x[learned], y == 1, "average_precision", 2.0)
        model = LinearSVC(C=cost, class_weight={1: 2}).fit(x[learned], y)
        scores = model.decision_function(asked[counted])
        expected.append(average_precision_score(test[1][counted, number], scores))
    assert found["map"] == pytest.approx(100 * np.mean(expected), abs=0.1)
    assert found["classes"] == 3 and 20 < found["low_shot_1"] < found["low_shot_4"] < found["map"]


def test_a_class_that_cannot_be_learned_or_judged_is_left_out():
    (rows, present), test = several_classes(60, seed=0), several_classes(50, seed=1)
    present[:, 1] = 0
    test[1][:, 2] = -1
    assert svm.mean_average_precision(rows, present, *test)["classes"] == 1
    with pytest.raises(DataError, match="of no class"):
        svm.mean_average_precision(rows, 0 * present, *test)


def test_eleven_points_are_the_highest_precisions_from_each_recall_on():
    rng = np.random.default_rng(0)
    truth, scores = rng.random(40) < 0.25, rng.normal(size=40)  # ten: recalls are exact tenths
    ranked = truth[np.argsort(-scores)]
    hits = np.cumsum(ranked)
    precision, tenths = hits / np.arange(1, 41), 10 * hits / ranked.sum()
    expected = [max(precision[tenths >= level - 1e-6]) for level in range(11)]
    assert svm.eleven_point(truth, scores) == pytest.approx(np.mean(expected))
