import dataclasses

import numpy as np
from images import save_damaged

from swav_jax.data.sizes import common_size, some_sizes
from swav_jax.data.sources import open_source
from swav_jax.data.sources.memory import open_arrays


def images(*sizes):
    return open_arrays([np.zeros((*size, 3), np.uint8) for size in sizes])


def test_sizes_are_those_of_readable_images(tmp_path):
    save_damaged(tmp_path)
    sizes = list(some_sizes(open_source("folder", str(tmp_path), "train")))
    assert len(sizes) == 16 and set(sizes) == {(40, 50), (10, 20_000)}


def test_a_source_that_knows_its_size_is_not_read():
    source = dataclasses.replace(images((3, 4), (3, 4)), read=None)
    assert list(some_sizes(source)) == [(3, 4)] and common_size(source) == (3, 4)


def test_few_of_many_images_are_looked_at():
    sizes = list(some_sizes(images(*[(1 + n, 2) for n in range(100)])))
    assert len(sizes) == 32 and sizes[0] == (1, 2) and sizes[-1] == (100, 2)


def test_a_common_size_is_one_of_all():
    assert common_size(images(*[(3, 4)] * 2, (4, 3))) is None
    assert common_size(dataclasses.replace(images(*[(3, 4)] * 2), shape=None)) == (3, 4)
    assert common_size(images()) is None
