import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from methods.short_runs import assert_resumes_exactly, losses
from sklearn.decomposition import PCA
from tiny import encoder

from swav_jax.config import ConfigError
from swav_jax.methods.contract import TrainState, Visited
from swav_jax.methods.deepcluster import DeepCluster
from swav_jax.ops.bank import padded
from swav_jax.optim import optimizer
from swav_jax.run import build

METHOD = DeepCluster(encoder(), prototypes=6, heads=1, components=3)


@pytest.fixture
def config(short_run):
    config = short_run("deepcluster")
    config.optim.base_lr = 0.02
    return config


def state_of(images):
    """Parameters with a classifier that has been trained, momentum, and old clusters."""
    params = {
        "backbone": {"linear": jnp.ones(2)},
        "classifier": {"kernel": jnp.ones((5, 6)), "bias": jnp.ones(6)},
    }
    return TrainState(
        step=jnp.int32(7),
        params=params,
        batch_stats={},
        opt_state=jax.tree.map(
            jnp.ones_like, optimizer("sgd", weight_decay=0, momentum=0.9).init(params)
        ),
        extra={"assignments": jnp.full((1, padded(images)), -1, jnp.int32)},
    )


def test_clusters_are_a_minimum_of_kmeans_on_whitened_features():
    features = jax.random.normal(jax.random.key(0), (100, 5)) * jnp.arange(1.0, 6)[None, :]

    def visit(fold, carry, view):
        assert view == "center"
        return carry[0], carry[1].at[:100].set(features), carry[2].at[:100].set(1)

    state, metrics = METHOD.cluster(state_of(100), visit, 3, jax.random.key(1))
    clusters = np.asarray(state.extra["assignments"][0])
    assert (clusters[100:] == -1).all()
    x = PCA(3, whiten=True).fit_transform(np.asarray(features, np.float64))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    centroids = np.stack([x[clusters[:100] == k].mean(0) for k in range(6)])
    distances = ((x[:, None] - centroids[None]) ** 2).sum(-1)
    np.testing.assert_array_equal(distances.argmin(1), clusters[:100])  # converged in 20 rounds
    assert metrics["clusters_used"] == 1


def test_an_image_without_any_feature_is_in_a_cluster_too():
    """One that a network with dead ReLUs gives zeros is not one that could not be read."""
    images = jnp.ones((4, 1, 16, 16, 3))
    params, batch_stats, extra = METHOD.init(jax.random.key(0), [images], 50)
    dead = jax.tree.map(jnp.zeros_like, params)
    state = dataclasses.replace(state_of(50), params=dead, batch_stats=batch_stats, extra=extra)
    random = jax.random.normal(jax.random.key(1), (20, 16))

    def visit(fold, carry, view):
        batch = Visited([images], jnp.array([20, 21, 22, np.iinfo(np.int32).max]))
        state, features, seen = fold(carry, batch)
        np.testing.assert_array_equal(features, 0)
        return state, features.at[:20].set(random), seen.at[:20].set(1)

    state, _ = METHOD.cluster(state, visit, 0, jax.random.key(2))
    clusters = np.asarray(state.extra["assignments"][0])
    assert (clusters[:23] >= 0).all() and (clusters[23:] == -1).all()


def test_clustering_resets_the_classifier_and_nothing_else():
    def visit(fold, carry, view):
        features = jax.random.normal(jax.random.key(0), carry[1].shape)
        return carry[0], features, jnp.ones(len(features))

    before = state_of(100)
    after, _ = METHOD.cluster(before, visit, 3, jax.random.key(1))
    kernel = after.params["classifier"]["kernel"]
    assert 0.005 < jnp.std(kernel) < 0.02
    assert (after.params["classifier"]["bias"] == 0).all()
    jax.tree.map(np.testing.assert_array_equal, after.opt_state, before.opt_state)
    np.testing.assert_array_equal(after.params["backbone"]["linear"], 1)
    again, _ = METHOD.cluster(before, visit, 4, jax.random.key(2))
    assert (again.params["classifier"]["kernel"] != kernel).all()


def test_loss_is_the_cross_entropy_after_a_relu():
    key = jax.random.key(3)
    classifier = {
        "kernel": jax.random.normal(key, (5, 6)),
        "bias": jnp.arange(6.0),
    }
    outputs = jax.random.normal(jax.random.key(4), (2, 3, 5))
    extra = {"assignments": jnp.full((1, 3840), -1, jnp.int32).at[0, 1].set(4).at[0, 9].set(2)}
    loss, _ = METHOD.loss({"classifier": classifier}, extra, outputs, jnp.array([9, 1]), None)
    logits = np.maximum(np.asarray(outputs, np.float64), 0) @ np.asarray(classifier["kernel"])
    logits += np.arange(6.0)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(loss, -(log_p[0, :, 2] + log_p[1, :, 4]).mean() / 2, rtol=1e-5)


def test_an_epoch_draws_uniformly_over_clusters():
    labels = np.repeat([0, 1, 3, -1], [700, 200, 10, 90])
    extra = {"assignments": jnp.asarray(np.random.RandomState(0).permutation(labels))[None]}
    order = METHOD.epoch_order(extra, 2, seed=5, size=1000)
    clusters = np.asarray(extra["assignments"][0])[order]
    np.testing.assert_array_equal(np.sort(np.bincount(clusters)), [0, 333, 333, 334])
    np.testing.assert_array_equal(order, METHOD.epoch_order(extra, 2, seed=5, size=1000))
    assert (order != METHOD.epoch_order(extra, 3, seed=5, size=1000)).any()


def test_impossible_settings_are_refused(config):
    config.model.prototypes = 1409
    with pytest.raises(ConfigError, match=r"prototypes 1409 exceeds the 1408 images"):
        build(config)
    config.model.prototypes = 10
    config.model.prototype_heads = 2
    with pytest.raises(ConfigError, match=r"set model\.prototype_heads to 1"):
        build(config)


@pytest.mark.slow
def test_eight_devices_equal_one(config, x64):
    config.model.dtype = "float64"  # in float32 rounding decides between clusters that are as near
    np.testing.assert_allclose(losses(config, 8, 13), losses(config, 1, 13), rtol=1e-9)


@pytest.mark.slow
def test_resume_equals_a_run_in_one_go(config, tmp_path, monkeypatch):
    config.train.epochs = 2
    assert_resumes_exactly(config, tmp_path, monkeypatch, after=15)
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text()
    assert lines.count("nmi_labels") == 2
    assert lines.count("nmi_previous") == 1


def test_images_are_assigned_as_the_classifier_does():
    random = np.random.RandomState(0)
    classifier = {"kernel": random.randn(16, 3), "bias": random.randn(3)}
    (found,) = METHOD.prototype_sets({"params": {"classifier": classifier}})
    x = random.randn(5, 16)
    scores = np.maximum(x, 0) @ found.directions.T / found.temperature + found.bias
    np.testing.assert_allclose(scores, np.maximum(x, 0) @ classifier["kernel"] + classifier["bias"])
    assert found.layer == "activated"
