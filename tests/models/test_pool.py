import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax.models.pool import in_pairs, max_pool, over_windows


@pytest.mark.parametrize("shape", [(2, 8, 6, 3), (1, 2, 4, 1)])
def test_pairs_have_the_values_and_gradients_of_xlas_windows(shape, x64):
    # Rounded, so that many windows have several largest values.
    x = np.random.default_rng(0).normal(size=shape).round()

    def value_and_gradient(pool):
        y, pull = jax.vjp(pool, x)
        return y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))[0]

    expected = value_and_gradient(over_windows)
    for pool in (in_pairs, jax.jit(max_pool)):
        for a, b in zip(value_and_gradient(pool), expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_odd_sizes_are_pooled_too():
    x = np.arange(25, dtype=np.float32).reshape(1, 5, 5, 1)
    np.testing.assert_array_equal(max_pool(x)[0, :, :, 0], [[6, 8, 9], [16, 18, 19], [21, 23, 24]])


@pytest.mark.usefixtures("on_each_platform")
def test_even_sizes_are_those_of_padded_windows():
    x = np.random.default_rng(1).normal(size=(2, 6, 4, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    np.testing.assert_array_equal(max_pool(x), windows[:, ::2, ::2].max((-2, -1)))


@pytest.mark.usefixtures("on_each_platform")
def test_a_nan_stays():
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 1, 1] = np.nan
    assert np.isnan(max_pool(x)).all()


@pytest.mark.parametrize(
    ("platform", "windows"), [("cpu", False), ("cuda", False), ("rocm", False), ("tpu", True)]
)
def test_only_a_tpu_has_a_gradient_that_is_scattered(platform, windows):
    gradient = jax.jit(jax.grad(lambda x: max_pool(x).sum()))
    program = gradient.trace(jnp.zeros((1, 8, 8, 2))).lower(lowering_platforms=(platform,))
    assert ("select_and_scatter" in program.as_text()) == windows
