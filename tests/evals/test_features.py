from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from swav_jax.augment.photometric import MEAN, STD
from swav_jax.data.batch import EvalBatch
from swav_jax.data.sources.source import DataError
from swav_jax.evals import features

IMAGES = np.random.default_rng(0).integers(0, 256, (11, 4, 4, 3), np.uint8)


def batches(size=8, order=None):
    """The images in some order, the last batch filled up with rows that are not valid."""
    order = np.arange(len(IMAGES)) if order is None else order
    for start in range(0, len(order), size):
        index = order[start : start + size]
        filled = np.pad(index, (0, size - len(index)))
        yield EvalBatch(IMAGES[filled], filled.astype(np.int32), np.arange(size) < len(index))


def linear(variables, images):
    return images.reshape(len(images), -1) @ variables


def extract(apply, variables, batches, **settings):
    return features.collect(features.embed(apply, variables, batches, **settings), len(IMAGES))


def expected(variables):
    normalised = (IMAGES / 255 - np.array(MEAN)) / np.array(STD)
    return normalised.reshape(len(IMAGES), -1) @ variables


@pytest.fixture
def variables():
    return np.random.default_rng(1).normal(size=(48, 5)).astype(np.float32)


def test_rows_are_in_the_order_of_the_data_set(variables):
    order = np.random.default_rng(2).permutation(len(IMAGES))
    for given in (None, order):
        rows = extract(linear, variables, batches(order=given))
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, expected(variables), rtol=1e-4, atol=1e-4)


def test_half_precision_features_and_another_normalisation(variables):
    def half(variables, images):
        return linear(variables, images).astype(jnp.bfloat16)

    rows = extract(half, variables, batches(), mean=(0.0,) * 3, std=(1.0,) * 3)
    assert rows.dtype == np.float32
    plain = (IMAGES / 255).reshape(11, -1) @ variables
    np.testing.assert_allclose(rows, plain, rtol=0.01, atol=0.02)


def test_batches_spread_over_devices(variables):
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    seen = []

    def linear_on_mesh(variables, images):
        jax.debug.inspect_array_sharding(images, callback=seen.append)
        return linear(variables, images)

    place = partial(jax.device_put, device=NamedSharding(mesh, PartitionSpec("data")))
    with jax.set_mesh(mesh):
        rows = extract(linear_on_mesh, variables, batches(), place=place)
    assert len(seen[0].device_set) == 8 and not seen[0].is_fully_replicated
    np.testing.assert_allclose(rows, expected(variables), rtol=1e-4, atol=1e-4)


def test_one_compilation_serves_every_pass(variables):
    calls = []

    def counted(variables, images):
        calls.append(None)
        return linear(variables, images)

    extract(counted, variables, batches())
    again = extract(counted, 2 * variables, batches())
    assert len(calls) == 1
    np.testing.assert_allclose(again, 2 * expected(variables), rtol=1e-4, atol=1e-4)


def test_images_in_no_batch_have_no_features(variables):
    rows = extract(linear, variables, batches(order=np.array([4, 2])))
    wanted = np.full_like(rows, np.nan)
    wanted[[4, 2]] = expected(variables)[[4, 2]]
    np.testing.assert_allclose(rows, wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="no batches"):
        extract(linear, variables, [])


def test_features_that_are_no_numbers_are_not_taken_for_unreadable_images(variables):
    with pytest.raises(DataError, match=r"NaN for 8 of 8 images, number 0 first: .*=float32"):
        extract(linear, np.nan * variables, batches())
