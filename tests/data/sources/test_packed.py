"""Images in one NumPy file."""

import numpy as np
import pytest

from swav_jax.data.sources import open_source
from swav_jax.data.sources.source import DataError, MissingSplit
from swav_jax.data.tf import tf

IMAGES = np.random.default_rng(0).integers(256, size=(5, 4, 6, 3), dtype=np.uint8)
LABELS = np.array([1, 0, -1, 1, 0])


@pytest.fixture
def packed(tmp_path):
    def write(**arrays):
        path = tmp_path / "images.npz"
        np.savez(path, **arrays)
        return str(path)

    return write


def test_images_and_labels_are_those_of_the_file(packed):
    path = packed(train=IMAGES, train_labels=LABELS, test=IMAGES[:2], class_names=["cat", "dog"])
    source = open_source("npz", path, "train")
    assert source.size == 5
    assert source.shape == (4, 6)
    assert source.class_names == ("cat", "dog")
    np.testing.assert_array_equal(source.labels, LABELS)
    for i, image in enumerate(IMAGES):
        np.testing.assert_array_equal(source.decode(i), image)
        np.testing.assert_array_equal(source.read(tf.constant(i, tf.int64)), image)
    assert open_source("npz", path, "test").labels is None


def test_classes_without_names_are_called_by_their_numbers(packed):
    source = open_source("npz", packed(train=IMAGES, train_labels=LABELS), "train")
    assert source.class_names == ("0", "1")


@pytest.mark.parametrize(
    ("arrays", "error", "says"),
    [
        ({"train": IMAGES}, MissingSplit, "it has train"),
        ({"test": IMAGES.astype(np.float32)}, DataError, "float32"),
        ({"test": IMAGES[..., :1]}, DataError, r"\[5, 4, 6, 1\]"),
        ({"test": IMAGES[:0]}, DataError, r"\[0, 4, 6, 3\]"),
        ({"test": IMAGES[0]}, DataError, r"\[4, 6, 3\]"),
        ({"test": IMAGES, "test_labels": LABELS[:2]}, DataError, r"integers \[5\]"),
        ({"test": IMAGES, "test_labels": LABELS, "class_names": ["cat"]}, DataError, "label 1"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(packed, arrays, error, says):
    with pytest.raises(error, match=says):
        open_source("npz", packed(**arrays), "test")


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "damaged", "a single array"])
def test_no_npz_file_is_refused(tmp_path, kind):
    path = tmp_path / "images.npz"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_bytes(b"no array")
    elif kind == "damaged":
        np.savez_compressed(path, train=IMAGES)
        content = bytearray(path.read_bytes())
        content[200:220] = bytes(20)
        path.write_bytes(content)
    elif kind == "a single array":
        with path.open("wb") as file:
            np.save(file, IMAGES)
    with pytest.raises(DataError, match=r"no \.npz file"):
        open_source("npz", str(path), "train")
