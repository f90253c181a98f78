import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import top_k_accuracy_score

from swav_jax import sharding
from swav_jax.data.sources import open_source
from swav_jax.evals.classify import accuracies, classify
from swav_jax.evals.labelled import Images


def test_accuracies_are_scikit_learns():
    random = np.random.RandomState(0)
    scores, labels = random.randn(200, 7), random.randint(7, size=200)
    expected = {
        f"top{k}": 100 * top_k_accuracy_score(labels, scores, k=k, labels=range(7)) for k in (1, 5)
    }
    assert accuracies(scores, labels) == expected


def test_of_equal_scores_the_lower_class_is_first():
    assert accuracies(np.ones((4, 2)), np.array([0, 0, 0, 1])) == {"top1": 75.0, "top5": 100.0}


def by_brightness(variables, images):
    """Scores of ten classes, of which the first is always the highest."""
    return jnp.arange(10.0, 0.0, -1.0)[None, :] + 0 * images[:, 0, 0, :1]


def test_classes_are_compared_by_name():
    train, test = (
        Images(open_source("digits", "", split), 0, 0, (0.5,), (0.5,), batch_size=64)
        for split in ("train", "test")
    )
    with jax.set_mesh(sharding.make_mesh(devices=jax.devices()[:1])):
        usual = classify(by_brightness, {}, train, test)
        names = tuple("7301245689")  # the classifier's first class is the seven
        other = dataclasses.replace(train.source, class_names=names)
        swapped = classify(by_brightness, {}, dataclasses.replace(train, source=other), test)
    share = [100 * np.mean(test.source.labels == digit) for digit in (0, 7)]
    np.testing.assert_allclose([usual["top1"], swapped["top1"]], share)
    assert usual["test_images"] == 297
    unlabelled = dataclasses.replace(test.source, find_labels=lambda: None)
    assert classify(by_brightness, {}, train, dataclasses.replace(test, source=unlabelled)) is None
    assert classify(by_brightness, {}, train, None) is None
