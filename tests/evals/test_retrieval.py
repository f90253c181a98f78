import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

from swav_jax.evals import retrieval as module
from swav_jax.evals.retrieval import average_precisions


def clusters(count, seed, classes=5, width=8):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    return (centres[labels] + rng.normal(size=(count, width))).astype(np.float32), labels


def scikit_learn(train, labels, test, truth):
    similarities = cosine_similarity(test, train)
    return [
        average_precision_score(labels == label, row)
        for label, row in zip(truth, similarities, strict=True)
    ]


def test_average_precisions_are_scikit_learns(monkeypatch):
    pairs = *clusters(120, seed=0), *clusters(31, seed=1)
    found = average_precisions(*pairs)
    np.testing.assert_allclose(found, scikit_learn(*pairs), rtol=1e-5)
    monkeypatch.setattr(module, "SIMILARITIES", 7 * 120)  # 7 test images at once, 3 left over
    np.testing.assert_allclose(average_precisions(*pairs), found, rtol=1e-6)


def test_equal_similarities_are_one_threshold():
    train, labels = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 2]], np.array([0, 1, 0, 0, 1])
    pairs = train, labels, np.array([[1, 0.5, 0.25]] * 2, np.float32), np.array([0, 1])
    np.testing.assert_allclose(average_precisions(*pairs), scikit_learn(*pairs), rtol=1e-6)
    assert average_precisions(*pairs)[0] == pytest.approx((2 / 3 + 2 / 3 + 3 / 4) / 3)
