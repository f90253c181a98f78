import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax import sharding
from swav_jax.ops.sinkhorn import harden, sinkhorn, sinkhorn_on_mesh


def plain(scores, epsilon, iterations):
    """The textbook iteration in float64: prototypes to 1/K, then samples to 1/B."""
    scores = scores.astype(np.float64)
    q = np.exp((scores - scores.max()) / epsilon)
    for _ in range(iterations):
        q /= q.sum(0, keepdims=True) * q.shape[1]
        q /= q.sum(1, keepdims=True) * q.shape[0]
    return q * q.shape[0]


def cosines(b, k, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (b, k)).astype(np.float32)


@pytest.mark.parametrize(("b", "k"), [(40, 7), (7, 40), (1, 5), (16, 1)])
@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_equals_the_textbook_iteration(b, k, epsilon):
    scores = cosines(b, k)
    codes, residual = sinkhorn(jnp.asarray(scores), epsilon=epsilon, iterations=3)
    expected = plain(scores, epsilon, 3)
    np.testing.assert_allclose(codes, expected, atol=2e-6)
    np.testing.assert_allclose(residual, np.abs(expected.mean(0) - 1 / k).sum(), atol=1e-5)


def test_jit_equals_eager():
    scores = jnp.asarray(cosines(12, 5))
    eager = sinkhorn(scores, epsilon=0.05, iterations=3).codes
    jitted = jax.jit(lambda s: sinkhorn(s, epsilon=0.05, iterations=3).codes)(scores)
    np.testing.assert_allclose(jitted, eager, atol=1e-6)


def test_converges_to_even_use_of_prototypes():
    codes, residual = sinkhorn(jnp.asarray(cosines(64, 8)), epsilon=0.05, iterations=300)
    np.testing.assert_allclose(codes.mean(0), 1 / 8, rtol=1e-3)
    assert residual < 1e-3


@pytest.mark.parametrize(
    "scores",
    [np.zeros((6, 4)), np.eye(6, 4), -np.eye(6, 4), cosines(1, 9), cosines(5, 3000)],
    ids=["all zero", "zero rows", "negative", "one sample", "more prototypes"],
)
@pytest.mark.parametrize("epsilon", [0.01, 0.001])
def test_stays_finite_and_rows_sum_to_one(scores, epsilon):
    codes, residual = sinkhorn(jnp.asarray(scores, jnp.float32), epsilon=epsilon, iterations=3)
    assert np.isfinite(codes).all() and np.isfinite(residual)
    np.testing.assert_allclose(codes.sum(1), 1, rtol=1e-3)


def test_invalid_samples_weigh_nothing():
    scores = cosines(20, 6)
    alone = sinkhorn(jnp.asarray(scores[:12]), epsilon=0.05, iterations=3)
    masked = sinkhorn(jnp.asarray(scores), epsilon=0.05, iterations=3, valid=jnp.arange(20) < 12)
    np.testing.assert_allclose(masked.codes[:12], alone.codes, atol=1e-6)
    np.testing.assert_allclose(masked.residual, alone.residual, atol=1e-6)


@pytest.mark.parametrize("samples", [32, 27])
@pytest.mark.parametrize("model", [1, 2, 4])
def test_eight_devices_equal_one(model, samples):
    scores = cosines(32, 12)
    expected = plain(scores[:samples], 0.05, 3)
    valid = None if samples == 32 else jnp.arange(32) < samples

    def codes(scores):
        return sinkhorn_on_mesh(scores, epsilon=0.05, iterations=3, valid=valid)

    with jax.set_mesh(sharding.make_mesh(model)):
        sharded, residual = jax.jit(codes)(scores)
    assert sharded.addressable_shards[0].data.shape == (32 * model // 8, 12 // model)
    np.testing.assert_allclose(sharded[:samples], expected, atol=2e-6)
    np.testing.assert_allclose(residual, np.abs(expected.mean(0) - 1 / 12).sum(), atol=1e-5)


def test_float64_stays_float64(x64):
    scores = cosines(20, 6).astype(np.float64)
    codes = sinkhorn(jnp.asarray(scores), epsilon=0.05, iterations=3).codes
    np.testing.assert_allclose(codes, plain(scores, 0.05, 3), atol=1e-14)


def test_bfloat16_scores_are_computed_in_float32():
    codes = sinkhorn(jnp.ones((3, 4), jnp.bfloat16), epsilon=0.05, iterations=3).codes
    assert codes.dtype == jnp.float32


def test_hard_codes():
    codes = jnp.array([[[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]]])
    np.testing.assert_array_equal(harden(codes), [[[0, 1, 0], [1, 0, 0]]])
