import jax.numpy as jnp
import numpy as np

from swav_jax.ops.similarity import similarity, unit


def test_unit_rows_and_zero():
    np.testing.assert_allclose(unit(jnp.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0, 0]])


def test_similarity_is_the_product():
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=(2, 3, 5)).astype("f"), rng.normal(size=(4, 5)).astype("f")
    np.testing.assert_allclose(similarity(jnp.asarray(x), jnp.asarray(c)), x @ c.T, rtol=1e-5)
