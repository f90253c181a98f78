import errno
import importlib.util
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from pixels import read
from prepared import labelled, prepare, tiny

from swav_jax.data.sources import open_source
from swav_jax.data.sources.source import DataError, MissingSplit
from swav_jax.data.sources.tfds_labels import read_labels

IMAGE = tfds.features.Image(shape=(None, None, 3))
ANIMALS = tfds.features.ClassLabel(names=["ant", "bee", "cat"])
CAMERA = tfds.features.ClassLabel(num_classes=2)


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def tfds_dir(request, tmp_path_factory):
    """A prepared data set: training images 0, 1, 2 and 3, 4 in two shards, and a test image."""
    top = tmp_path_factory.mktemp("tfds")
    splits = {"train": [[0, 1, 2], [3, 4]], "test": [[0]]}
    splits = {
        split: [[{"image": tiny(i), "label": i % 3} for i in shard] for shard in shards]
        for split, shards in splits.items()
    }
    features = {"image": IMAGE, "label": ANIMALS}
    prepare(top, "tiny_photos", features, splits, suffix=request.param)
    return str(top)


def test_tfds_reads_in_any_order(tfds_dir):
    source = open_source("tfds:tiny_photos", tfds_dir, "train")
    assert source.size == 5 and source.class_names == ("ant", "bee", "cat")
    for i in (4, 0, 3, 1, 2):
        np.testing.assert_array_equal(read(source, i), tiny(i))
    assert source.labels.tolist() == [0, 1, 2, 0, 1] and source.labels.dtype == np.int32
    part = open_source("tfds:tiny_photos", tfds_dir, "train[2:4]")
    assert part.size == 2 and part.labels.tolist() == source.labels[2:4].tolist()
    np.testing.assert_array_equal(read(part, 1), read(source, 3))
    assert part.digest != open_source("tfds:tiny_photos", tfds_dir, "train[:2]").digest
    assert part.describe(1) == source.describe(3) != part.describe(0)  # features are kept by it
    assert part.changed(1) == source.changed(3) > 0 and part.feature == "image"
    assert open_source("tfds:tiny_photos", tfds_dir, "test").size == 1
    with pytest.raises(MissingSplit, match="it has"):
        open_source("tfds:tiny_photos", tfds_dir, "val")
    with pytest.raises(DataError, match="no image in the split"):
        open_source("tfds:tiny_photos", tfds_dir, "train[:0]")


def photos(top, features, supervised_keys=None):
    """Three examples of any features; the images `right` are others than the rest."""

    def value(key, feature, i):
        if isinstance(feature, tfds.features.Image):
            return tiny(i + (key == "right"))
        return [i, i + 1] if isinstance(feature, tfds.features.Sequence) else i

    examples = [{key: value(key, f, i) for key, f in features.items()} for i in (0, 1, 0)]
    prepare(top, "photos", features, {"train": [examples]}, supervised_keys=supervised_keys)
    return lambda **keys: open_source("tfds:photos", str(top), "train", **keys)


@pytest.mark.parametrize(
    ("keys", "supervised_keys", "image", "label"),
    [
        (["left", "right", "camera", "kind"], ("right", "kind"), "right", "kind"),
        (["left", "right", "camera", "kind"], ("right", "kind", "camera"), "right", "kind"),
        (["image", "right", "camera", "label"], None, "image", "label"),
        (["image", "right", "camera", "label"], ("label", "image"), "image", "label"),  # as lfw's
        (["right", "camera", "mask"], None, "right", "camera"),
    ],
    ids=["supervised keys", "three of them", "names", "supervised keys of other kinds", "the only"],
)
def test_image_and_label_are_those_that_the_data_set_means(
    tmp_path, keys, supervised_keys, image, label
):
    mask = tfds.features.LabeledImage(labels=3, shape=(None, None, 1))
    kinds = {"camera": CAMERA, "kind": ANIMALS, "label": ANIMALS, "mask": mask}
    features = {key: kinds.get(key, IMAGE) for key in keys}
    source = photos(tmp_path, features, supervised_keys)()
    np.testing.assert_array_equal(read(source, 1), tiny(1 + (image == "right")))
    assert source.class_names == tuple(kinds[label].names)


def test_a_setting_chooses_image_and_label(tmp_path):
    features = {"left": IMAGE, "right": IMAGE, "label": ANIMALS, "camera": CAMERA}
    opened = photos(tmp_path, features)
    source = opened(image_key="right", label_key="camera")
    np.testing.assert_array_equal(read(source, 1), tiny(2))
    assert source.class_names == ("0", "1") and source.labels.tolist() == [0, 1, 0]
    with pytest.raises(DataError, match=r"image: set data\.image_key to one of left, right$"):
        opened()
    with pytest.raises(DataError, match=r"data\.image_key is 'label'; .* image are left, right$"):
        opened(image_key="label")
    with pytest.raises(DataError, match=r"data\.label_key is 'kind'; .* are camera, label$"):
        opened(image_key="left", label_key="kind")


def test_several_labels_of_which_none_is_meant_are_refused(tmp_path):
    opened = photos(tmp_path, {"image": IMAGE, "kind": ANIMALS, "camera": CAMERA})
    with pytest.raises(DataError, match=r"label: set data\.label_key to one of camera, kind$"):
        opened()
    assert opened(label_key="kind").class_names == ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("features", "supervised_keys"),
    [
        ({"label": tfds.features.Sequence(ANIMALS), "camera": CAMERA}, None),
        ({"quality": tfds.features.Scalar(np.int64), "camera": CAMERA}, ("image", "quality")),
        ({"quality": tfds.features.Scalar(np.int64)}, None),
    ],
    ids=["several classes", "a number is meant", "no class"],
)
def test_a_label_that_is_not_one_class_is_none(tmp_path, caplog, features, supervised_keys):
    source = photos(tmp_path, {"image": IMAGE} | features, supervised_keys)()
    caplog.set_level(logging.INFO, logger="absl")
    assert source.labels is None and source.class_names == ()
    assert len(caplog.messages) == 1 and "no label that is one class: " in caplog.text
    assert f"{next(iter(features))} (" in caplog.text
    source.labels  # noqa: B018 - asks again
    assert len(caplog.messages) == 1


def test_a_data_set_without_images_is_refused(tmp_path):
    opened = photos(tmp_path, {"label": ANIMALS, "camera": CAMERA})
    with pytest.raises(DataError, match=r"has camera \(ClassLabel\), label \(ClassLabel\)\."):
        opened()


def test_images_of_floats_are_refused(tmp_path):
    floats = tfds.features.Image(shape=(None, None, 1), dtype=np.float32)
    with pytest.raises(DataError, match="of floats"):
        photos(tmp_path, {"image": floats, "label": ANIMALS})()


def test_label_minus_one_is_no_label(tmp_path):
    features = {"image": IMAGE, "label": ANIMALS}
    splits = {"train": [labelled(2, -1, 0)], "unlabelled": [labelled(-1, -1)]}
    splits["wrong"] = [labelled(0, 3)]
    prepare(tmp_path, "photos", features, splits)
    assert open_source("tfds:photos", str(tmp_path), "train").labels.tolist() == [2, -1, 0]
    assert open_source("tfds:photos", str(tmp_path), "unlabelled").labels is None
    both = open_source("tfds:photos", str(tmp_path), "train+unlabelled")
    assert both.labels.tolist() == [2, -1, 0, -1, -1]
    wrong = open_source("tfds:photos", str(tmp_path), "wrong")
    with pytest.raises(DataError, match="record 1: its label is 3, and photos has 3 classes"):
        wrong.labels  # noqa: B018


@pytest.mark.parametrize("suffix", ["tfrecord", "array_record"])
def test_a_damaged_record_has_no_label(tmp_path, suffix):
    splits = {"train": [labelled(0, 1), labelled(2, 1), labelled(0)]}
    prepare(tmp_path, "photos", {"image": IMAGE, "label": ANIMALS}, splits, suffix=suffix)
    shard = tmp_path / "photos" / "1.0.0" / f"photos-train.{suffix}-00001-of-00003"
    shard.write_bytes(shard.read_bytes()[:-40])  # of ArrayRecord, the index of all its records
    found = open_source("tfds:photos", str(tmp_path), "train").labels.tolist()
    assert found == ([0, 1, 2, -1, 0] if suffix == "tfrecord" else [0, 1, -1, -1, 0])


def test_a_disk_that_fails_for_a_while_takes_no_label_away():
    """The labels that are found may be kept for good."""

    def feature(number, key):
        if number == 1:
            raise OSError(errno.EIO, "Input/output error")
        return SimpleNamespace(int64_list=SimpleNamespace(value=[2]))

    assert read_labels(feature, "label", 1).tolist() == [2]
    with pytest.raises(DataError, match=r"label of image 1 .*\(Input/output error\)"):
        read_labels(feature, "label", 3)


def test_prepared_data_sets_of_hugging_face_need_none_of_its_packages(tmp_path, monkeypatch):
    features = {"image": IMAGE, "labels": ANIMALS}
    splits = {"train": [[{"image": tiny(1), "labels": 2}]]}
    of_tfds, of_hub = tmp_path / "tfds", tmp_path / "hub"
    prepare(of_tfds, "beans", features, splits)
    prepare(of_hub, "beans", features, splits, homepage="https://huggingface.co/datasets/beans")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    source = open_source("tfds:huggingface:beans", str(of_hub), "train")
    assert source.labels.tolist() == [2] and source.class_names == ("ant", "bee", "cat")
    for there in (of_tfds, tmp_path):
        with pytest.raises(DataError, match=r"pip install datasets huggingface_hub$"):
            open_source("tfds:huggingface:beans", str(there), "train")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("huggingface:Owner/Name", "tfds:huggingface:owner__name for owner/Name"),
        ("kaggle:photos", "knows no 'kaggle:photos', and none is prepared"),
        ("kubric:movi_a", "cannot open kubric:movi_a: ValueError: `data_dir` cannot be set"),
        ("mnist/large", "cannot open mnist/large: ValueError: .* BuilderConfig large not found"),
        ("mnist:9.9.9", "cannot open mnist:9.9.9: AssertionError: .* only: 3.0.1"),
    ],
)
def test_names_that_tfds_cannot_open_are_refused_in_one_line(tmp_path, caplog, name, message):
    with pytest.raises(DataError, match=message) as refusal:
        open_source(f"tfds:{name}", str(tmp_path), "train")
    assert "\n" not in str(refusal.value) and not caplog.messages
