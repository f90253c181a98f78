import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import encoder

from swav_jax.methods import momentum


def crops(*kinds):
    rng = np.random.default_rng(0)
    return [
        jnp.asarray(rng.normal(size=(6, count, size, size, 3)), jnp.float32)
        for count, size in kinds
    ]


def test_moving_average_by_hand():
    slow = momentum.moving_average({"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([2.0, 0.0])}, 0.9)
    np.testing.assert_allclose(slow["a"], [1.1, 1.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("kinds", "counts", "key_from"),
    [
        (((2, 8),), [1], (0, 1)),
        (((2, 8), (3, 4)), [1, 3], (0, 1)),
        (((1, 8), (1, 8), (2, 4)), [1, 2], (1, 0)),
        (((3, 8),), [2], (0, 1)),
    ],
)
def test_crop_one_is_the_key_and_all_others_are_queries(kinds, counts, key_from):
    images = crops(*kinds)
    queries, keys = momentum.split(images)
    kind, place = key_from
    assert len(keys) == 1
    np.testing.assert_array_equal(keys[0], images[kind][:, place : place + 1])
    assert [q.shape[1] for q in queries] == counts
    np.testing.assert_array_equal(queries[0][:, 0], images[0][:, 0])
    pixels = sum(float(x.sum()) for x in [*queries, *keys])
    np.testing.assert_allclose(pixels, sum(float(x.sum()) for x in images), rtol=1e-4)


def test_each_encoder_has_its_own_parameters_and_statistics():
    images, net = crops((2, 8), (2, 4)), encoder()
    method = momentum.Momentum(net, queue_length=6)
    params, batch_stats, extra = method.init(jax.random.key(0), images, 6)
    slow = jax.tree.map(lambda x: 0.5 * x, params)
    views, new = method.forward(params, batch_stats, extra | {"key_encoder": slow}, images)
    assert views.queries.shape == (6, 3, 8)
    queries, keys = momentum.split(images)

    def alone(params, statistics, crops):
        z, updates = net.apply(
            {"params": params, "batch_stats": statistics}, crops, True, mutable=["batch_stats"]
        )
        return z, updates["batch_stats"]

    fresh = batch_stats["key_encoder"]
    expected, statistics = alone(params, fresh, queries)
    np.testing.assert_allclose(views.queries, expected, rtol=1e-6)
    expected_keys, key_statistics = alone(slow, fresh, keys)
    np.testing.assert_allclose(views.keys, expected_keys[:, 0], rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        new,
        statistics | {"key_encoder": key_statistics},
    )
