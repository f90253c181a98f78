import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import encoder

from swav_jax.methods.contract import TrainState
from swav_jax.methods.deepcluster_v2 import DeepClusterV2
from swav_jax.methods.sela_v2 import SeLaV2
from swav_jax.models.encoder import embed


@pytest.mark.parametrize("cls", [DeepClusterV2, SeLaV2])
def test_before_epoch_0_the_bank_is_filled_in_train_mode_without_an_optimiser(cls):
    method = cls(encoder(), prototypes=5, heads=3)
    rng = np.random.default_rng(0)
    crops = tuple(
        jnp.asarray(rng.normal(size=(6, count, size, size, 3)), jnp.float32)
        for count, size in ((2, 8), (1, 4))
    )
    params, batch_stats, extra = method.init(jax.random.key(0), crops, 12)
    state = TrainState(jnp.int32(0), params, batch_stats, (), extra)
    index = jnp.array([3, 0, 7, 8, 11, 1])

    def visit(fold, carry, view):
        assert view == "crops"
        return fold(carry, {"crops": crops, "index": index})

    after, _ = method.cluster(state, visit, 0, jax.random.key(1))
    z, statistics = embed(method.encoder, params, batch_stats, crops)
    expected = np.zeros(extra["bank"].shape, np.float32)
    expected[:, index] = np.swapaxes(z[:, :2], 0, 1)
    np.testing.assert_allclose(after.extra["bank"], expected, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, after.batch_stats, statistics)
    for name in ("backbone", "head"):
        jax.tree.map(np.testing.assert_array_equal, after.params[name], params[name])
    assigned = np.asarray(after.extra["assignments"]) >= 0
    assert assigned[:, index].all() and assigned.sum() == 18
