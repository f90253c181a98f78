import jax
import jax.numpy as jnp
import numpy as np
import pytest
from methods.short_runs import losses
from tiny import encoder, start

from swav_jax import sharding, train
from swav_jax.checkpoints.store import Checkpoints
from swav_jax.clustering import cluster
from swav_jax.methods.contract import TrainState, Visited
from swav_jax.methods.deepcluster_v2 import DeepClusterV2
from swav_jax.methods.sela_v2 import SeLaV2
from swav_jax.models.encoder import embed
from swav_jax.run import build


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
        return fold(carry, Visited(crops, index))

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "devices"), [("deepcluster_v2", 1), ("deepcluster_v2", 8), ("sela_v2", 8)]
)
def test_a_bank_in_host_memory_trains_to_the_bit_as_one_on_the_devices(short_run, method, devices):
    config = short_run(method)
    config.model.prototype_heads = 3
    near = losses(config, devices, 12)  # clusters before steps 0 and 11
    config.mesh.bank_memory = "host"
    assert losses(config, devices, 12) == near


def test_steps_and_checkpoints_leave_the_bank_in_host_memory(short_run, tmp_path):
    config = short_run("deepcluster_v2")
    config.mesh.bank_memory = "host"
    run = build(config)
    with jax.set_mesh(run.mesh), Checkpoints(tmp_path) as checkpoints:
        state, take_step = start(run)
        before = state.extra["bank"]
        state, _ = cluster(run, state, 0)
        batch = next(train.batches_from(run, state, 0))
        state, _ = take_step(state, sharding.put_batch(run.mesh, batch))
        checkpoints.save(1, state, {})
        restored, _ = checkpoints.restore(state)
        assert before.is_deleted()
        for bank in (state.extra["bank"], restored.extra["bank"]):
            assert bank.sharding.memory_kind == "pinned_host"
            assert bank.sharding.spec == sharding.MEMORY
        np.testing.assert_array_equal(restored.extra["bank"], state.extra["bank"])
        assert restored.params["prototypes"]["prototypes0"].sharding.memory_kind == "device"
        state, _ = take_step(restored, sharding.put_batch(run.mesh, batch))
        assert state.extra["bank"].sharding.memory_kind == "pinned_host"
