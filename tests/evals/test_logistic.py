import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from swav_jax.data.sources import open_source
from swav_jax.evals import logistic
from swav_jax.evals.labelled import Images
from swav_jax.evals.subset import balanced


def overlapping(count, *, classes=4, width=6, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width)) / np.sqrt(width / 6)
    labels = rng.integers(0, classes, count)
    return (centres[labels] + rng.normal(size=(count, width))).astype(np.float32), labels


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
def test_agrees_with_scikit_learn(penalty, monkeypatch):
    monkeypatch.setattr(logistic, "TOLERANCE", 1e-6)
    logistic._minimise.clear_cache()
    features, labels = overlapping(300)
    theirs = LogisticRegression(C=1 / (len(labels) * penalty), tol=1e-8, max_iter=10_000)
    theirs.fit(features.astype(np.float64), labels)
    weights = logistic.fit(features, labels, penalty, logistic.start(6, 4))
    ours = jax.nn.softmax(logistic.scores(weights, features))
    np.testing.assert_allclose(ours, theirs.predict_proba(features), atol=1e-3)
    np.testing.assert_allclose(weights[0], theirs.coef_.T, atol=1e-3)
    logistic._minimise.clear_cache()


def test_the_penalty_is_the_best_on_the_held_out_part(monkeypatch):
    penalties = np.array([100.0, 0.3, 1e-3])
    monkeypatch.setattr(logistic, "PENALTIES", penalties)
    features, labels = overlapping(150, width=30)
    held = ~np.isin(np.arange(150), balanced(labels, 0.8))
    right = [
        LogisticRegression(C=1 / (np.sum(~held) * penalty), max_iter=1000)
        .fit(features[~held], labels[~held])
        .score(features[held], labels[held])
        for penalty in penalties
    ]
    assert len(set(right)) == 3
    chosen = logistic.choose_penalty(features, labels, 4, seed=0)
    assert chosen == penalties[np.argmax(right)]


def test_one_image_of_each_class_is_enough():
    features, labels = np.eye(3, dtype=np.float32), np.arange(3)
    penalty = logistic.choose_penalty(features, labels, 3, seed=0)
    weights = logistic.fit(features, labels, penalty, logistic.start(3, 3))
    assert logistic.scores(weights, features).argmax(axis=1).tolist() == [0, 1, 2]


def colours(images):
    """What a network without weights sees: every eighth pixel."""
    pixels = [batch.image[batch.valid, ::8, ::8, 0] for batch in images.batches()]
    return 1 + np.concatenate(pixels).reshape(images.source.size, -1).astype(np.float32)


def test_digits_are_told_apart_by_their_pixels(monkeypatch):
    monkeypatch.setattr(logistic, "PENALTIES", np.array([0.1, 0.01]))
    train, test = (
        Images(open_source("digits", "", split), 0, 0, (0.5,), (0.5,))
        for split in ("train", "test")
    )
    found = logistic.fast_linear(colours, train, test)
    assert 70 < found["top1"] < found["top5"] <= 100
    assert found["penalty"] in logistic.PENALTIES
