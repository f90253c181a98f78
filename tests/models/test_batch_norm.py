import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from swav_jax import sharding
from swav_jax.models.batch_norm import BatchNorm

X = np.random.default_rng(0).normal(3.0, 2.0, (8, 3, 3, 4)).astype(np.float32)
SCALE = np.array([1.0, 2.0, 0.5, -1.0], np.float32)
BIAS = np.array([0.0, 1.0, -1.0, 3.0], np.float32)
VARIABLES = {
    "params": {"scale": SCALE, "bias": BIAS},
    "batch_stats": {"mean": np.full(4, 0.5, np.float32), "var": np.full(4, 2.0, np.float32)},
}


def _expected(x):
    x = x.astype(np.float64)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / np.sqrt(var + 1e-5) * SCALE + BIAS


@pytest.mark.parametrize("groups", [1, 4])
def test_normalises_each_group_by_its_own_statistics(groups):
    y, updates = BatchNorm(groups).apply(VARIABLES, X, False, mutable=["batch_stats"])
    parts = np.split(X, groups)
    expected = np.concatenate([_expected(part) for part in parts])
    np.testing.assert_allclose(y, expected, atol=1e-5)
    mean = np.mean([part.mean((0, 1, 2)) for part in parts], 0)
    var = np.mean([part.var((0, 1, 2), ddof=1) for part in parts], 0)
    stats = updates["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.9 * 0.5 + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 * 2.0 + 0.1 * var, rtol=1e-5)


def test_running_statistics_ignore_the_groups_and_stay():
    y, updates = BatchNorm(groups=3).apply(VARIABLES, X, True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, (X - 0.5) / np.sqrt(2.0 + 1e-5) * SCALE + BIAS, atol=1e-5)
    np.testing.assert_array_equal(updates["batch_stats"]["mean"], VARIABLES["batch_stats"]["mean"])


def test_bfloat16_statistics_are_taken_in_float32():
    # 512 values near 256, where bfloat16 has steps of 2: a bfloat16 sum would be far off.
    x = jnp.asarray(256 + 8 * np.random.default_rng(1).normal(size=(512, 4)), jnp.bfloat16)
    y, updates = BatchNorm(dtype=jnp.bfloat16).apply(VARIABLES, x, False, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    exact = np.asarray(x, np.float64)
    mean = updates["batch_stats"]["mean"]
    assert mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, 0.45 + 0.1 * exact.mean(0), rtol=1e-6)
    expected = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5) * SCALE + BIAS
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, atol=0.03)


def _variances(x):
    """Of the channels of a bfloat16 batch [B, C], biased, as the layer takes them."""
    n, channels = x.shape
    start = {"mean": jnp.zeros(channels), "var": jnp.zeros(channels)}
    params = {"scale": jnp.ones(channels), "bias": jnp.zeros(channels)}
    layer = BatchNorm(momentum=0.0, dtype=jnp.bfloat16)
    variables = {"params": params, "batch_stats": start}
    _, updates = layer.apply(variables, x, False, mutable=["batch_stats"])
    return np.asarray(updates["batch_stats"]["var"], np.float64) * (n - 1) / n


@pytest.mark.parametrize("mean", [0.0, 1.0, 10.0, 100.0])
def test_the_variance_of_bfloat16_loses_less_than_its_rounding_did(mean):
    drawn = np.random.default_rng(0).normal(mean, 1.0, (8192, 4))
    x = jnp.asarray(drawn, jnp.bfloat16)
    rounding = (2.0**-8 * np.abs(drawn).mean()) ** 2 / 12  # its variance, in even steps
    np.testing.assert_allclose(_variances(x), np.asarray(x, np.float64).var(0), atol=rounding)


def test_equal_bfloat16_values_have_no_variance_below_zero():
    # Thirds of powers of two, whose squares and sums are rounded in float32.
    values = jnp.asarray(2.0 ** np.arange(-3, 12) / 3, jnp.bfloat16)
    assert np.all(_variances(jnp.broadcast_to(values, (1001, 15))) >= 0)


@pytest.mark.parametrize(("dtype", "messages"), [(jnp.bfloat16, 1), (jnp.float32, 2)])
def test_bfloat16_statistics_of_several_devices_take_one_message(dtype, messages):
    mesh = sharding.make_mesh(1, jax.devices()[:4])
    split = NamedSharding(mesh, sharding.SAMPLES)
    x = jax.ShapeDtypeStruct((8, 3, 3, 4), dtype, sharding=split)

    def normalised(x):
        return BatchNorm(dtype=dtype).apply(VARIABLES, x, False, mutable=["batch_stats"])

    with jax.set_mesh(mesh):
        program = jax.jit(normalised).lower(x).compile().as_text()
    assert len(re.findall(r" all-reduce(-start)?\(", program)) == messages


def test_float64_stays_float64(x64):
    layer = BatchNorm(dtype=jnp.float64, param_dtype=jnp.float64)
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), VARIABLES)
    y, _ = layer.apply(variables, X.astype(np.float64), False, mutable=["batch_stats"])
    assert y.dtype == jnp.float64
    np.testing.assert_allclose(y, _expected(X), atol=1e-12)


def test_large_means_keep_their_variance():
    x = np.random.default_rng(0).normal(1000.0, 0.1, (256, 4)).astype(np.float32)
    y, _ = BatchNorm().apply(VARIABLES, x, False, mutable=["batch_stats"])
    exact = x.astype(np.float64)
    expected = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5) * SCALE + BIAS
    np.testing.assert_allclose(y, expected, atol=0.01)


def test_init_leaves_the_running_statistics_at_their_start():
    variables = BatchNorm().init(jax.random.key(0), X, False)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(4))
    np.testing.assert_array_equal(variables["batch_stats"]["var"], np.ones(4))


def test_a_batch_that_does_not_divide_is_named():
    with pytest.raises(ValueError, match="a batch of 8 does not divide into 3 bn_groups"):
        BatchNorm(groups=3).apply(VARIABLES, X, False, mutable=["batch_stats"])


@pytest.mark.parametrize("groups", [1, 4])
def test_gradients_are_those_of_the_definition(groups, x64):
    layer = BatchNorm(groups, dtype=jnp.float64, param_dtype=jnp.float64)
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), VARIABLES)
    weight = np.random.default_rng(2).normal(size=X.shape)

    def ours(params, x):
        y, _ = layer.apply(variables | {"params": params}, x, False, mutable=["batch_stats"])
        return (y * weight).sum()

    def by_definition(params, x):
        x = x.reshape(groups, -1, 4)
        centred = x - x.mean(1, keepdims=True)
        std = jnp.sqrt(jnp.square(centred).mean(1, keepdims=True) + 1e-5)
        y = centred / std * params["scale"][None, None] + params["bias"][None, None]
        return (y * weight.reshape(y.shape)).sum()

    x = X.astype(np.float64)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10),
        jax.jit(jax.grad(ours, (0, 1)))(variables["params"], x),
        jax.grad(by_definition, (0, 1))(variables["params"], x),
    )
