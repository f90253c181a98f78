import numpy as np
import pytest
from images import with_labels
from sklearn.neighbors import KNeighborsClassifier

from swav_jax.evals import knn
from swav_jax.evals.knn import accuracies, neighbours


def clusters(count, *, classes=7, width=12, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    labels = rng.integers(0, classes, count)
    features = centres[labels] + 1.2 * rng.normal(size=(count, width))
    return features * rng.uniform(0.1, 10, (count, 1)), labels  # lengths must not matter


def knn_accuracy(train, labels, test, truth, *, ks, temperature=0.07):
    found = neighbours(train, test, max(ks))
    return accuracies(*found, labels, truth, ks=ks, temperature=temperature)


def scikit_learn(train, labels, test, truth, k, temperature):
    unit_train, unit_test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    model = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / temperature)
    )
    votes = model.fit(unit_train, labels).predict_proba(unit_test)
    ranked = model.classes_[np.argsort(-votes, axis=1, kind="stable")]
    voted = np.sort(votes, axis=1)[:, ::-1] > 0
    hits = (ranked == truth[:, None]) & voted
    return 100 * hits[:, 0].mean(), 100 * hits[:, :5].any(axis=1).mean()


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_agrees_with_scikit_learn(temperature):
    train, test = clusters(300), clusters(200, seed=1)
    ours = knn_accuracy(*train, *test, ks=(1, 20, 200), temperature=temperature)
    for k in (1, 20, 200):
        top1, top5 = scikit_learn(*train, *test, k, temperature)
        assert ours[k] == {"k": k, "top1": pytest.approx(top1), "top5": pytest.approx(top5)}
    assert 20 < ours[20]["top1"] < ours[20]["top5"] < 100


def test_pieces_and_chunks_change_nothing(monkeypatch):
    train, test = clusters(60), clusters(50, seed=1)
    whole = knn_accuracy(*train, *test, ks=(5,))
    monkeypatch.setattr(knn, "PIECE", 12 * 25)  # 25 training images at once, 10 left over
    monkeypatch.setattr(knn, "SIMILARITIES", 25 * 8)  # 8 test images at once, 2 left over
    knn._merge.clear_cache()
    assert knn_accuracy(*train, *test, ks=(5,)) == whole
    knn._merge.clear_cache()


def test_more_neighbours_than_images():
    train, test = clusters(30), clusters(40, seed=1)
    both = knn_accuracy(*train, *test, ks=(30, 200))
    assert both[200]["k"] == 30
    assert both[200] == both[30]


def test_nearer_neighbours_outvote_more_neighbours():
    train, labels = np.array([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8]]), np.array([0, 1, 1])
    test, truth = np.array([[5.0, 0.0]]), np.array([0])
    assert knn_accuracy(train, labels, test, truth, ks=(3,), temperature=0.07)[3]["top1"] == 100
    assert knn_accuracy(train, labels, test, truth, ks=(3,), temperature=10)[3]["top1"] == 0


def test_ties_go_to_the_earlier_image_and_the_lower_class():
    train = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    labels = np.array([3, 1, 2, 0])
    test = np.ones((4, 1)) * np.array([[2.0, 0.0]])
    found = knn_accuracy(train, labels, test, np.array([3, 1, 2, 0]), ks=(1, 2, 4))
    assert found[1] == {"k": 1, "top1": 25, "top5": 25}  # image 0, of class 3
    assert found[2] == {"k": 2, "top1": 25, "top5": 50}  # class 1 before class 3
    assert found[4] == {"k": 4, "top1": 25, "top5": 100}
    assert knn_accuracy(train, labels, test, np.array([1] * 4), ks=(2,))[2]["top1"] == 100


def test_a_class_without_votes_is_never_found():
    train, labels = np.eye(2), np.array([1, 2])
    found = knn_accuracy(train, labels, np.eye(2), np.array([0, 3]), ks=(2,))
    assert found[2] == {"k": 2, "top1": 0, "top5": 0}


def test_low_temperature_and_zero_features_stay_finite():
    train, test = clusters(40), clusters(30, seed=1)
    train[0][0] = test[0][0] = 0
    low = knn_accuracy(*train, *test, ks=(20,), temperature=0.005)[20]
    assert low["top1"] == pytest.approx(scikit_learn_nearest(train, test), abs=5)


def scikit_learn_nearest(train, test):
    """With weights that steep the nearest image decides, but for close calls."""
    model = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(*train)
    return 100 * model.score(*test)


def test_leave_one_out_is_scikit_learns_for_each_image():
    features, labels = clusters(60, classes=4)
    features = features.astype(np.float32)
    features[7] = np.nan  # could not be read
    labels[11], labels[7] = 4, 0  # the only one of its class is not judged
    images = with_labels(labels, tuple("abcde"))
    found = knn.knn(lambda _: features, images, images, ks=(5, 200), temperature=0.5)
    readable = np.delete(np.arange(60), 7)
    top1 = {5: [], 58: []}
    for number in np.delete(readable, 10):
        others = readable[readable != number]
        for k, hits in top1.items():
            one = features[[number]], labels[[number]], k, 0.5
            hits.append(scikit_learn(features[others], labels[others], *one)[0])
    assert found["top1"] == pytest.approx(np.mean(top1[5]))
    assert found["k200_top1"] == pytest.approx(np.mean(top1[58]))
    assert (found["k"], found["train_images"], found["test_images"]) == (5, 59, 58)
