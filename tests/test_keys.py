import itertools
from typing import get_args

import jax
import numpy as np

from swav_jax import keys


def test_no_two_purposes_share_a_key_and_none_is_a_part_of_the_seeds_own():
    purposes, number = get_args(keys.Purpose), 5
    data = [jax.random.key_data(keys.at(3, purpose, number)) for purpose in purposes]
    data += [jax.random.key_data(keys.stream(3, purpose)) for purpose in purposes]
    data += list(jax.random.key_data(jax.random.split(jax.random.key(3), 2 * number)))
    for a, b in itertools.combinations(np.stack(data), 2):
        assert not np.array_equal(a, b)


def test_a_traced_number_gives_the_same_key():
    traced = jax.jit(lambda step: keys.at(0, "step", step))(np.int32(7))
    assert np.array_equal(jax.random.key_data(traced), jax.random.key_data(keys.at(0, "step", 7)))
