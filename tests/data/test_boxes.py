import numpy as np
import pytest
import tensorflow as tf

from swav_jax.data import crops
from swav_jax.data.boxes import TRIES, crop_boxes

SPECS = ((2, 24, 0.3, 1.0), (3, 16, 0.15, 0.5), (1, 8, 0.9, 1.0))


@pytest.mark.parametrize("size", [(32, 32), (375, 500), (20, 200), (200, 20), (1, 1)])
def test_boxes_are_tensorflows_to_the_bit(size):
    seeds = np.array([((7 << 32) + 3, 5 + 50_000 * k) for k in range(40)] + [(-1, 2**62)])
    low, high = (np.repeat([spec[k] for spec in SPECS], [2, 3, 1])[:, None] for k in (2, 3))
    found = crop_boxes(seeds, size, SPECS)
    assert found.dtype == np.int32 and found.shape == (41, 6, 4)
    for seed, boxes in zip(seeds, found, strict=True):
        uniform = tf.random.stateless_uniform([6, TRIES, 4], seed, dtype=tf.float64, alg="philox")
        theirs = crops.random_boxes(uniform, tf.constant(size), low, high)
        np.testing.assert_array_equal(boxes, theirs)
