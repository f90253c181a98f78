import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax.models import conv as conv_module
from swav_jax.models.conv import conv, plain


def _arrays(size, channels, side, dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, side, side + 1, channels)).astype(dtype)
    return x, (rng.normal(size=(size, size, channels, 5)) * 0.1).astype(dtype)


@pytest.mark.parametrize("slice_pixels", [50, 16384])
@pytest.mark.parametrize(
    ("size", "channels", "stride", "side"),
    [(1, 16, 1, 5), (1, 16, 2, 7), (3, 16, 1, 5), (3, 16, 2, 7), (3, 16, 2, 6), (7, 3, 2, 9)],
)
def test_values_and_gradients_are_those_of_xlas_convolution(
    size, channels, stride, side, slice_pixels, x64, monkeypatch
):
    monkeypatch.setattr(conv_module, "_SLICE_PIXELS", slice_pixels)
    arrays = _arrays(size, channels, side, np.float64)

    def value_and_gradients(convolution):
        y, pull = jax.vjp(lambda x, kernel: convolution(x, kernel, stride), *arrays)
        return y, *pull(jnp.cos(y))

    ours = jax.jit(lambda: value_and_gradients(conv))()
    for a, b in zip(ours, value_and_gradients(plain), strict=True):
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_bfloat16_kernel_gradients_are_summed_in_float32():
    # 6 * 32 * 33 pixels: a bfloat16 sum of so many numbers would be off by percents.
    x, kernel = (jnp.asarray(a, jnp.bfloat16) for a in _arrays(3, 16, 32, np.float32))
    dy = jnp.ones((*x.shape[:3], 5), jnp.bfloat16)
    gradient = jax.vjp(lambda kernel: conv(x, kernel, 1), kernel)[1](dy)[0]
    assert gradient.dtype == jnp.bfloat16
    exact = np.asarray(x, np.float64).sum((0, 1, 2))
    np.testing.assert_allclose(np.asarray(gradient[1, 1, :, 0], np.float64), exact, rtol=0.005)
