import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax.models.conv import conv, plain, product


def _arrays(size, channels, side):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, side, side + 1, channels))
    return x, rng.normal(size=(size, size, channels, 5)) * 0.1


@pytest.mark.parametrize(
    ("size", "stride", "side"), [(1, 1, 5), (1, 2, 7), (1, 2, 6), (3, 1, 2), (3, 2, 4), (7, 1, 3)]
)
@pytest.mark.usefixtures("on_each_platform")
def test_products_have_the_values_and_gradients_of_xlas_convolution(size, stride, side, x64):
    arrays = _arrays(size, 16, side)

    def value_and_gradients(convolution):
        y, pull = jax.vjp(lambda x, kernel: convolution(x, kernel, stride), *arrays)
        return y, *pull(jnp.cos(y))

    ours = jax.jit(lambda: value_and_gradients(conv))()
    for a, b in zip(ours, value_and_gradients(plain), strict=True):
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "stride", "side"),
    [(1, 2, 6), (3, 1, 1), (3, 2, 3), (3, 1, 5), (3, 2, 6), (3, 2, 7), (7, 2, 9)],
)
@pytest.mark.usefixtures("on_each_platform")
def test_is_the_padded_cross_correlation(size, stride, side, x64):
    x, kernel = _arrays(size, 3, side)
    half = size // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    rows, columns = -(-side // stride), -(-(side + 1) // stride)
    expected = np.zeros((2, rows, columns, 5))
    for i in range(rows):
        for j in range(columns):
            top, left = i * stride, j * stride
            window = padded[:, top : top + size, left : left + size]
            expected[:, i, j] = np.einsum("bklc,klco->bo", window, kernel)
    np.testing.assert_allclose(conv(x, kernel, stride), expected, atol=1e-12)


def test_a_product_is_given_to_each_platform_in_the_form_that_is_fast_there():
    def lowered(platform):
        x, columns = jnp.zeros((2, 4, 4, 8)), jnp.zeros((8, 16))
        program = jax.jit(product).trace(x, columns)
        return program.lower(lowering_platforms=(platform,)).as_text()

    assert "tensor<32x16xf32>" in lowered("cpu")  # pixels are rows of a matrix
    assert "tensor<32x16xf32>" not in lowered("tpu")
    for platform in ("cuda", "rocm"):
        assert "stablehlo.convolution" in lowered(platform)
        assert "dot_general" not in lowered(platform)
