import jax
import jax.numpy as jnp
import numpy as np
import pytest
from methods.short_runs import assert_resumes_exactly, losses
from tiny import encoder

from swav_jax.clustering import FIRST_EPOCH_OF_PASSES
from swav_jax.config import ConfigError
from swav_jax.data.index import epoch_order
from swav_jax.methods.contract import TrainState
from swav_jax.methods.deepcluster_v2 import DeepClusterV2
from swav_jax.ops.similarity import unit
from swav_jax.run import build


@pytest.fixture
def config(short_run):
    config = short_run("deepcluster_v2")
    config.model.prototype_heads = 3
    config.optim.base_lr = 0.02
    return config


def visit_nothing(fold, carry, view):
    """A pass over no images."""
    return carry


def clustered(bank):
    """A method with three heads over two banks, and the state after clustering them."""
    method = DeepClusterV2(encoder(dim=4), prototypes=5, heads=3)
    state = TrainState(
        step=jnp.int32(7),
        params={"prototypes": {f"prototypes{h}": jnp.zeros((5, 4)) for h in range(3)}},
        batch_stats={},
        opt_state=(),
        extra={"bank": bank, "assignments": jnp.full((3, bank.shape[1]), -1, jnp.int32)},
    )
    return method, *method.cluster(state, visit_nothing, 1, jax.random.key(0))


def bank_of(images, rows):
    bank = unit(jax.random.normal(jax.random.key(1), (2, rows, 4)))
    return jnp.where(jnp.arange(rows)[None, :, None] < images, bank, 0)


def test_every_head_clusters_its_bank_and_its_prototypes_are_the_centroids():
    bank = bank_of(images=90, rows=100)
    _, state, metrics = clustered(bank)
    assignments = np.asarray(state.extra["assignments"])
    for head in range(3):
        rows = np.asarray(bank[head % 2, :90], np.float64)
        prototypes = np.asarray(state.params["prototypes"][f"prototypes{head}"], np.float64)
        np.testing.assert_allclose(np.linalg.norm(prototypes, axis=1), 1, rtol=1e-6)
        np.testing.assert_array_equal(assignments[head, :90], (rows @ prototypes.T).argmax(1))
        assert (assignments[head, 90:] == -1).all()
    assert (assignments[0] != assignments[1]).any()
    assert (assignments[0] != assignments[2]).any()  # same bank, another start
    largest = [np.bincount(a[:90]).max() / 90 for a in assignments]
    np.testing.assert_allclose(metrics["largest_cluster"], np.mean(largest), rtol=1e-6)
    assert metrics["clusters_used"] == 1


def test_loss_is_the_cross_entropy_of_all_crops_of_seen_images():
    method, state, _ = clustered(bank_of(images=90, rows=3840))
    embedding = unit(jax.random.normal(jax.random.key(2), (4, 5, 4)))
    index = jnp.array([3, 95, 50, 8])  # number 95 was never seen
    loss, (extra, metrics) = method.loss(state.params, state.extra, embedding, index, None)

    expected = []
    for head in range(3):
        prototypes = np.asarray(state.params["prototypes"][f"prototypes{head}"], np.float64)
        clusters = np.asarray(state.extra["assignments"])[head, index]
        for image in (0, 2, 3):
            for crop in range(5):
                scores = prototypes @ np.asarray(embedding[image, crop], np.float64) / 0.1
                expected.append(np.log(np.exp(scores).sum()) - scores[clusters[image]])
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)
    assert metrics["seen"] == 0.75

    old, new = np.array(state.extra["bank"]), np.asarray(extra["bank"])
    old[:, index] = np.swapaxes(embedding[:, :2], 0, 1)
    np.testing.assert_array_equal(new, old)


def test_prototypes_get_no_gradient():
    method, state, _ = clustered(bank_of(images=90, rows=3840))
    embedding = unit(jax.random.normal(jax.random.key(2), (2, 3, 4)))
    gradient = jax.grad(
        lambda params: method.loss(params, state.extra, embedding, jnp.array([1, 2]), None)[0]
    )(state.params)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))
    assert method.frozen(None) == {"prototypes": True}


def test_impossible_settings_are_refused(config):
    config.method.assignment_crops = (0, 4)
    with pytest.raises(ConfigError, match="must name crops from 0 to 3"):
        build(config)
    config.model.prototypes = 1409
    config.method.assignment_crops = (0, 1)
    with pytest.raises(ConfigError, match=r"prototypes 1409 exceeds the 1408 images"):
        build(config)


@pytest.mark.slow
def test_eight_devices_equal_one(config):
    alone = losses(config, 1, 13)
    config.mesh.model = 2
    np.testing.assert_allclose(losses(config, 8, 13), alone, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("after", [11, 15])  # where an epoch ends, and within one
def test_resume_equals_a_run_in_one_go(config, tmp_path, monkeypatch, after):
    config.train.epochs = 2
    state = assert_resumes_exactly(config, tmp_path, monkeypatch, after=after)

    # 1408 of the 1500 images are drawn in the pass that fills the bank, and in each epoch.
    drawn = [set(epoch_order(0, epoch, 1500)[:1408]) for epoch in (FIRST_EPOCH_OF_PASSES, 0, 1)]
    for seen in state["['extra']['bank']"].any(-1):
        assert set(np.flatnonzero(seen)) == drawn[0] | drawn[1] | drawn[2]
    for clusters in state["['extra']['assignments']"]:  # made after the first epoch
        assert set(np.flatnonzero(clusters >= 0)) == drawn[0] | drawn[1]
