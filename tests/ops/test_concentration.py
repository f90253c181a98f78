import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax.ops.concentration import concentration


def test_hand_values_before_clipping_and_scaling():
    # Sizes 2, 3, 1, 0 and one row in no cluster.
    distances = jnp.array([1.0, 9.0, 4.0, 4.0, 16.0, 25.0, 1e6])
    assignments = jnp.array([0, 0, 1, 1, 1, 2, -1])
    first, second = 2 / np.log(12), 8 / 3 / np.log(13)
    raw = np.array([first, second, second, second])  # the small ones get the largest
    clipped = np.clip(raw, *np.percentile(raw, [10, 90]))
    expected = 0.2 * clipped / clipped.mean()
    ours = concentration(distances, assignments, 4, temperature=0.2)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    np.testing.assert_allclose(jnp.mean(ours), 0.2, rtol=1e-6)
    jitted = jax.jit(concentration, static_argnums=2, static_argnames="temperature")
    np.testing.assert_allclose(
        jitted(distances, assignments, 4, temperature=0.2), expected, rtol=1e-6
    )


@pytest.mark.parametrize("assignments", [[0, 1, 2, 3], [0, 0, 0, 0]])
def test_clusters_without_any_spread_all_get_the_temperature(assignments):
    ours = concentration(jnp.zeros(4), jnp.array(assignments), 4, temperature=0.3)
    np.testing.assert_allclose(ours, np.full(4, 0.3), rtol=1e-6)
