import jax.numpy as jnp
import numpy as np

from swav_jax.ops.largest import first_largest


def test_the_first_of_equal_values():
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, size=(5, 40, 30)).astype("f")  # ties in nearly every row
    x[0, 0], x[0, 1, 7], x[0, 2] = -np.inf, np.inf, 0
    places = first_largest(jnp.asarray(x))
    assert places.dtype == jnp.int32
    np.testing.assert_array_equal(places, x.argmax(-1))


def test_a_nan_gives_a_place_of_the_row():
    assert first_largest(jnp.array([[1.0, jnp.nan, 2.0]])).tolist() == [0]
