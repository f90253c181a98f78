import logging
import unicodedata

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from images import smooth, with_labels
from pixels import read
from prepared import labelled as examples
from prepared import prepare
from tiny import tiny_swav

from swav_jax import train
from swav_jax.data.sources import open_source
from swav_jax.evals.labelled import Images, labelled, readable
from swav_jax.tasks.knn import knn_task
from swav_jax.workdir import read_results


def folder(top, split, classes, images=2):
    for i, name in enumerate(classes):
        (top / split / name).mkdir(parents=True)
        for n in range(images):
            smooth(10 * i + n, 20, 20).save(top / split / name / f"{n}.png")


def images(top, split, name="folder"):
    source = open_source(name, str(top), split)
    return Images(source, resize=16, crop=16, mean=(0.5,) * 3, std=(0.25,) * 3)


def test_classes_are_the_same_if_their_names_are(tmp_path):
    composed, apart = (unicodedata.normalize(form, "fée") for form in ("NFC", "NFD"))
    folder(tmp_path, "train", ["ant", "bee", composed])
    folder(tmp_path, "test", ["ant", apart])
    train_images, test = labelled(images(tmp_path, "train"), images(tmp_path, "test"))
    assert train_images.source.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert test.source.labels.tolist() == [0, 0, 2, 2]
    assert test.source.class_names == ("ant", "bee", composed)


def test_test_images_of_a_class_without_training_images_are_left_out(tmp_path, caplog):
    folder(tmp_path, "train", ["bee", "cat"])
    folder(tmp_path, "test", ["ant", "cat", "dog"], images=3)
    train_images, test = images(tmp_path, "train"), images(tmp_path, "test")
    for _ in range(2):  # a run evaluates more than once
        _, judged = labelled(train_images, test)
    assert judged.source.size == 3 and judged.source.labels.tolist() == [1, 1, 1]
    for i in range(3):
        assert "cat" in judged.source.describe(i)
        np.testing.assert_array_equal(read(judged.source, i), read(test.source, 3 + i))
    assert len(caplog.messages) == 1
    assert "leave out 6 of 9 test images: " in caplog.text
    assert caplog.text.strip().endswith("class, ant (3), dog (3)")


def test_without_a_common_class_there_is_no_evaluation(tmp_path, caplog):
    folder(tmp_path, "train", ["ant", "bee"])
    folder(tmp_path, "test", ["cat", "dog"])
    folder(tmp_path, "unlabelled", ["only"])
    caplog.set_level(logging.INFO, logger="absl")
    assert labelled(images(tmp_path, "train"), images(tmp_path, "test")) is None
    reason = caplog.messages[-1].removeprefix("no evaluation by labels: ")
    assert reason == (
        "no test image is of a class that a training image has: they are cat (2), dog (2), "
        "training images ant (2), bee (2)"
    )
    assert labelled(images(tmp_path, "train"), images(tmp_path, "unlabelled")) is None
    reason = "no evaluation by labels: the test images have no labels; eval.test can name others"
    assert caplog.messages[-1] == reason


def test_an_unreadable_image_has_no_vote(tmp_path):
    folder(tmp_path, "train", ["ant", "bee"], images=20)
    folder(tmp_path, "test", ["ant", "bee"], images=3)
    (tmp_path / "train" / "ant" / "0.png").write_bytes(b"")
    config = tiny_swav()
    config.data.update(name="folder", data_dir=str(tmp_path), test="test", max_bad_fraction=0.1)
    config.method.freeze_prototypes_steps, config.train.steps = 1, 2
    train.pretrain(config, tmp_path / "run")
    found = read_results(tmp_path / "run")["knn"]
    assert found["k"] == 20 and np.isfinite(found["top1"])
    assert found["train_images"] == 39 and found["test_images"] == 6
    assert jax.device_count() == 8


def test_an_image_without_any_feature_is_none_that_cannot_be_read():
    """As of a network with dead ReLUs; one that cannot be read has no numbers."""
    rows = np.zeros((3, 4), np.float32)
    rows[1] = np.nan
    found, labels = readable(rows, with_labels([0, 1, 1], ("ant", "bee")))
    np.testing.assert_array_equal(found, np.zeros((2, 4)))
    assert labels.tolist() == [0, 1]


@pytest.fixture(scope="module")
def half_labelled(tmp_path_factory):
    """Like STL-10: classes in train and test, none in `unlabelled`; some of `mixed` have one.

    An image's brightness grows with its number, and its class is the half that it is in.
    """
    top = tmp_path_factory.mktemp("tfds")
    halves = [0] * 20 + [1] * 20
    splits = {
        "train": halves,
        "test": [*halves, -1, 2],
        "unlabelled": [-1] * 40,
        "mixed": [label if i % 2 else -1 for i, label in enumerate(halves)],
    }
    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=["dark", "bright", "never"]),
    }
    splits = {split: [examples(*labels, size=16)] for split, labels in splits.items()}
    prepare(top, "photos", features, splits)
    return top


def half_labelled_run(top):
    config = tiny_swav()
    config.data.update(name="tfds:photos", data_dir=str(top), train="unlabelled", test="test")
    config.method.freeze_prototypes_steps, config.train.steps = 1, 2
    return config


def test_images_without_a_label_neither_vote_nor_are_judged(half_labelled, tmp_path, caplog):
    config = half_labelled_run(half_labelled)
    config.eval.train = "mixed"
    train.pretrain(config, tmp_path)
    trained = read_results(tmp_path)["knn"]
    assert trained["k"] == 20 and trained["train_images"] == 20 and trained["test_images"] == 40
    assert trained["top1"] > 90  # brightness is easy to see; label -1 as the last class: 50
    warnings = [text for text in caplog.messages if "evaluations by labels" in text]
    assert len(warnings) == 1 and warnings[0].endswith("class, never (1)")

    config.eval.train = "train"
    knn_task(config, tmp_path)
    assert read_results(tmp_path)["knn"]["train_images"] == 40


def test_a_run_without_labels_is_not_evaluated(half_labelled, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="absl")
    train.pretrain(half_labelled_run(half_labelled), tmp_path)
    assert read_results(tmp_path) == {}
    reasons = [text for text in caplog.messages if "no evaluation" in text]
    assert reasons == [
        "no evaluation by labels: the training images have no labels; eval.train can name others"
    ]
