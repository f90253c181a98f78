import dataclasses

import numpy as np
import pytest
from images import with_labels

from swav_jax.data.sources import open_source
from swav_jax.data.sources.source import DataError
from swav_jax.evals.subset import balanced, listed

LABELS = np.random.RandomState(0).permutation(np.repeat([0, 1, 2, 5, -1], [400, 300, 20, 2, 80]))


def test_a_share_of_each_class_and_at_least_one():
    tenth = balanced(LABELS, 0.1)
    assert np.bincount(LABELS[tenth]).tolist() == [40, 30, 2, 0, 0, 1]
    hundredth = balanced(LABELS, 0.01)
    assert np.bincount(LABELS[hundredth]).tolist() == [4, 3, 1, 0, 0, 1]
    assert set(hundredth) < set(tenth) and (np.diff(tenth) > 0).all()


def test_the_seed_decides_the_draw():
    np.testing.assert_array_equal(balanced(LABELS, 0.1, seed=3), balanced(LABELS, 0.1, seed=3))
    assert set(balanced(LABELS, 0.1, seed=3)) != set(balanced(LABELS, 0.1, seed=4))


PATHS = ("top/cat/1.jpg", "top/cat/2.jpg", "top/dog/1.jpg", "top/dog/3.jpg")
FILES = dataclasses.replace(
    open_source("digits", "", "test"), size=len(PATHS), describe=lambda i: PATHS[i]
)


def test_images_are_named_with_as_many_folders_as_tell_them_apart():
    assert listed(FILES, ["3.jpg", "dog/1.jpg", "2.jpg"]).tolist() == [1, 2, 3]
    with pytest.raises(DataError, match=r"'1.jpg' is the name of top/cat/1.jpg and of top/dog/1"):
        listed(FILES, ["1.jpg"])
    with pytest.raises(DataError, match=r"2 of 3 listed names are of no .* 'cat/3.jpg'"):
        listed(FILES, ["cat/3.jpg", "2.jpg", "g/1.jpg"])


def test_records_are_named_as_tables_name_them():
    source = with_labels([0, 1, 0, 1], ("a", "b")).source
    assert listed(source, [source.name(3), source.name(1)]).tolist() == [1, 3]
