from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import encoder

from swav_jax import gradients
from swav_jax.methods.contract import Clock
from swav_jax.methods.swav import SwAV
from swav_jax.optim import optimizer
from swav_jax.step import init_state


def swav(bn_groups):
    return SwAV(
        encoder(bn_groups=bn_groups),
        prototypes=12,
        heads=1,
        queue_length=16,
        queue_start_epoch=0,
    )


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_equal_one_pass_with_the_parts_batch_norm(parts):
    """Codes stay global: only the batch-norm statistics are those of the parts."""
    rng = np.random.default_rng(0)
    images = 16
    crops = tuple(jnp.asarray(rng.normal(size=(images, 2, s, s, 3)), jnp.float32) for s in (16, 8))
    whole, part = swav(bn_groups=parts), swav(bn_groups=1)
    state = init_state(
        whole, optimizer("larc", weight_decay=0.0, momentum=0.9), crops, size=1, seed=0
    )
    clock = Clock(jnp.int32(0), jnp.int32(0), jax.random.key(0))
    # Part i is made of rows i, i + parts, ...; batch-norm groups are of neighbouring rows.
    grouped = np.arange(images).reshape(-1, parts).T.reshape(-1)
    index = jnp.arange(images, dtype=jnp.int32)
    one = jax.jit(partial(gradients.whole_batch, whole))(
        state, tuple(c[grouped] for c in crops), index[grouped], clock
    )
    many = jax.jit(partial(gradients.in_parts, part, parts=parts))(state, crops, index, clock)
    np.testing.assert_allclose(many[1], one[1], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), many[0], one[0]
    )
    queue = np.sort(many[3]["queue"], axis=1), np.sort(one[3]["queue"], axis=1)
    np.testing.assert_allclose(*queue, atol=1e-5)
