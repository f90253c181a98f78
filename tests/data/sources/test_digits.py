import numpy as np
import pytest
import tensorflow as tf
from pixels import read
from sklearn.datasets import load_digits

from swav_jax.data.sources import open_source
from swav_jax.data.sources.source import MissingSplit


def test_digits():
    train, test = (open_source("digits", "", split) for split in ("train", "test"))
    assert (train.size, test.size) == (1500, 297)
    assert train.class_names == tuple("0123456789") and not train.may_fail
    image = read(train, 5)
    assert image.shape == (32, 32, 3) and image.dtype == np.uint8

    # Averaged back to 8x8, every image is one of scikit-learn's, once, with its label.
    digits = load_digits()
    flat = digits.images.reshape(-1, 64) * (255 / 16)
    found = []
    for source in (train, test):
        images = list(tf.data.Dataset.range(source.size).map(source.read).as_numpy_iterator())
        for i in range(0, source.size, 10):
            small = images[i][..., 0].reshape(8, 4, 8, 4).mean((1, 3)).reshape(64)
            nearest = np.argmin(np.linalg.norm(flat - small, axis=1))
            assert digits.target[nearest] == source.labels[i]
            found.append(nearest)
    assert len(set(found)) == len(found)
    with pytest.raises(MissingSplit, match="train and test"):
        open_source("digits", "", "val")
