"""A bank in host memory: the same training, to the bit."""

import jax
import numpy as np
import pytest
from methods.short_runs import losses
from tiny import start

from swav_jax import sharding, train
from swav_jax.checkpoints.store import Checkpoints
from swav_jax.clustering import cluster
from swav_jax.run import build


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "devices"), [("deepcluster_v2", 1), ("deepcluster_v2", 8), ("sela_v2", 8)]
)
def test_losses_are_those_of_a_bank_on_the_devices(short_run, method, devices):
    config = short_run(method)
    config.model.prototype_heads = 3
    near = losses(config, devices, 12)  # clusters before steps 0 and 11
    config.mesh.bank_memory = "host"
    assert losses(config, devices, 12) == near


def test_steps_and_checkpoints_leave_it_there(short_run, tmp_path):
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
