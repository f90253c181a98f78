import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from sklearn.decomposition import PCA

from swav_jax.ops import whitening
from swav_jax.ops.whitening import pca_whiten
from swav_jax.sharding import SAMPLES, make_mesh


def features(rows=200, width=12):
    rng = np.random.RandomState(0)
    return (rng.randn(rows, width) @ rng.randn(width, width) + 5).astype(np.float32)


def assert_equal_up_to_sign(ours, expected, tolerance):
    signs = np.sign(np.sum(np.asarray(ours) * expected, axis=0, keepdims=True))
    np.testing.assert_allclose(ours * signs, expected, atol=tolerance)


def test_is_scikit_learns_up_to_sign_in_float64(x64):
    x = np.float64(features())
    ours = pca_whiten(jnp.asarray(x), 7)
    assert ours.dtype == jnp.float64
    assert_equal_up_to_sign(ours, PCA(7, whiten=True).fit_transform(x), 1e-9)


def test_float32_is_close_on_eight_devices():
    x = features()
    mesh = make_mesh()
    with jax.set_mesh(mesh):
        ours = pca_whiten(jax.device_put(x, NamedSharding(mesh, SAMPLES)), 7)
    assert ours.sharding.spec[0] == "data"
    assert_equal_up_to_sign(ours, PCA(7, whiten=True).fit_transform(np.float64(x)), 2e-4)


def test_chunks_make_no_difference(x64, monkeypatch):
    x = np.float64(features(rows=210))
    monkeypatch.setattr(whitening, "CHUNK", 84)  # 7 rows
    ours = pca_whiten(jnp.asarray(x), 7, valid=jnp.arange(210) < 200)
    expected = PCA(7, whiten=True).fit(x[:200]).transform(x)
    assert_equal_up_to_sign(ours, expected, 1e-9)


def test_rows_that_are_not_valid_do_not_shape_the_components():
    x = jnp.asarray(features())
    padded = jnp.concatenate([x, jnp.full((24, 12), 100.0)])
    masked = pca_whiten(padded, 5, valid=jnp.arange(224) < 200)
    assert_equal_up_to_sign(masked[:200], np.asarray(pca_whiten(x, 5)), 1e-4)


def test_directions_without_variance_are_not_blown_up():
    x = features()
    x[:, 6:] = x[:, :6]
    whitened = pca_whiten(jnp.asarray(x), 12)
    deviation = np.std(whitened, axis=0)
    np.testing.assert_allclose(deviation[:6], 1, rtol=0.01)
    assert deviation[6:].max() < 0.1


def test_more_components_than_dimensions_is_an_error():
    with pytest.raises(ValueError, match="13 components of 12-dimensional"):
        pca_whiten(jnp.asarray(features()), 13)
