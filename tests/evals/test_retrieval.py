import numpy as np
import pytest
from images import with_labels
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

from swav_jax.data.sources.source import DataError
from swav_jax.evals import retrieval as module
from swav_jax.evals.retrieval import average_precisions, retrieval


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


def test_leave_one_out_is_scikit_learns_for_each_image():
    features, labels = clusters(40, seed=0)
    labels[3] = 5  # the only one of its class asks for nothing
    images = with_labels(labels, tuple("abcdef"))
    found = retrieval(lambda _: features, images, images, ks=(4,))
    precisions, hits = [], []
    for number in np.delete(np.arange(40), 3):
        others = np.delete(np.arange(40), number)
        one = features[[number]], labels[[number]]
        precisions += scikit_learn(features[others], labels[others], *one)
        nearest = np.argsort(-cosine_similarity(one[0], features[others])[0])[:4]
        hits.append(np.mean(labels[others][nearest] == labels[number]))
    assert found["map"] == pytest.approx(100 * np.mean(precisions), rel=1e-5)
    assert found["precision_at_4"] == pytest.approx(100 * np.mean(hits))
    assert (found["train_images"], found["test_images"]) == (40, 39)


def test_a_class_that_could_not_be_read_is_left_out(caplog):
    train, test = with_labels([0, 0, 1], ("a", "b")), with_labels([0, 1], ("a", "b"))
    rows = {3: np.eye(3, dtype=np.float32), 2: np.eye(2, 3, dtype=np.float32)}
    rows[3][2] = np.nan
    found = retrieval(lambda images: rows[images.source.size], train, test, ks=(1,))
    assert found["test_images"] == 1 and found["recall_at_1"] == 50
    assert "leave out 1 of 2 test images: no training image of their class" in caplog.text
    rows[2][0] = np.nan
    with pytest.raises(DataError, match="of no class"):
        retrieval(lambda images: rows[images.source.size], train, test, ks=(1,))
