import jax
import jax.numpy as jnp
import numpy as np
import pytest
from methods.short_runs import assert_resumes_exactly, losses
from tiny import encoder, start

from swav_jax import sharding, train
from swav_jax.augment.photometric import normalise
from swav_jax.clustering import cluster
from swav_jax.data.batches import eval_batches
from swav_jax.methods.contract import Sizes
from swav_jax.methods.pcl import PCL
from swav_jax.run import build

RUN = Sizes(size=1500, batch_size=128, views=2, steps_per_epoch=11, total_steps=110)
POSSIBLE = {
    "queue_length": 512,
    "negative_prototypes": 32,
    "granularity": (1, 2),
    "warmup_epochs": 2,
}


@pytest.fixture
def config(short_run):
    config = short_run("pcl")
    config.model.prototypes = 160
    config.method.update(POSSIBLE)
    config.method.momentum = 0.9
    config.method.kmeans_restarts = 2
    config.method.warmup_epochs = 1
    config.train.epochs = 3
    return config


@pytest.mark.parametrize(
    ("settings", "prototypes", "message"),
    [
        ({}, 800, r"prototypes 800 x method\.granularity 2 exceeds the 1500 images.* at most 750"),
        ({"negative_prototypes": 33}, 160, r"between 1 and the 32 prototypes that remain of 160"),
        ({"negative_prototypes": 1}, 100, "between 1 and the 0 prototypes"),
        ({"negative_prototypes": 0}, 160, "between 1 and the 32"),
        ({"queue_length": 500}, 160, r"queue_length 500 is not a multiple .* Try 512"),
        ({"granularity": ()}, 160, r"method\.granularity \(\) must name"),
        ({"granularity": (0, 1)}, 160, r"method\.granularity \(0, 1\) must name .* 1 or more"),
        ({"warmup_epochs": 20}, 160, "there would never be a cluster"),
    ],
)
def test_impossible_settings_are_refused(settings, prototypes, message):
    with pytest.raises(ValueError, match=message):
        PCL(encoder(), prototypes=prototypes, heads=1, **(POSSIBLE | settings)).check(RUN)


def test_several_heads_are_refused():
    with pytest.raises(ValueError, match=r"set model\.prototype_heads to 1, not 3"):
        PCL(encoder(), prototypes=160, heads=3, **POSSIBLE).check(RUN)


def test_small_clusters_are_warned_of():
    method = PCL(encoder(), prototypes=160, heads=1, **POSSIBLE)
    (warning,) = method.check(RUN)
    assert "clusters of 4.7 images" in warning
    assert method.check(RUN._replace(size=15000)) == []


def test_clusters_are_those_of_the_key_encoders_centre_crops(config):
    config.method.warmup_epochs = 0
    run = build(config)
    with jax.set_mesh(run.mesh):
        state, _ = start(run)
        # The trained encoder must not matter.
        state = state.replace(params=jax.tree.map(lambda x: 0 * x, state.params))
        host = jax.device_get(state)
        assert (host.extra["assignments"] == -1).all()
        state, metrics = cluster(run, state, 0)
        extra = jax.device_get(state.extra)

    batches = eval_batches(run.source, 100, resize=16, crop=16)
    images = np.concatenate([batch.image for batch in batches])[:1500]
    crops = normalise(jnp.asarray(images, jnp.float32) / 255)[:, None]
    rows = run.method.encoder.apply(
        {
            "params": host.extra["key_encoder"],
            "batch_stats": host.batch_stats["key_encoder"],
        },
        [crops],
        train=False,
    )
    rows = np.asarray(rows[:, 0], np.float64)

    assert extra["assignments"].shape[1] >= 1500
    assert (extra["assignments"][:, 1500:] == -1).all()
    for level, clusters in enumerate((160, 320)):
        assignments = extra["assignments"][level, :1500]
        members = np.eye(clusters)[assignments]
        counts = members.sum(0)
        assert counts.min() >= 1
        means = members.T @ rows / counts[:, None]
        # At a fixed point of Lloyd's the centroids are the means of their members; after 20
        # iterations a few rows still move.
        ours = extra["centroids"][level]
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, rtol=1e-5)
        directions = means / np.linalg.norm(means, axis=1, keepdims=True)
        assert np.median(np.abs(ours - directions).max(1)) < 1e-4
        np.testing.assert_allclose(extra["densities"][level].mean(), 0.2, rtol=1e-5)
        inertia = ((rows - means[assignments]) ** 2).sum()
        np.testing.assert_allclose(metrics[f"inertia_{clusters}"], inertia, rtol=1e-2)
        # Any other partition is worse: rows are in the nearest cluster but for a few.
        nearest = ((rows[:, None] - means[None]) ** 2).sum(-1).argmin(1)
        assert (nearest == assignments).mean() > 0.97


def test_prototypes_join_the_loss_after_the_warm_up(config):
    run = build(config)
    with jax.set_mesh(run.mesh):
        state, take_step = start(run)
        batches = train.batches_from(run, state, 0)
        for step in range(13):
            if step in (0, 11):
                state, _ = cluster(run, state, step)
            state, metrics = take_step(state, sharding.put_batch(run.mesh, next(batches)))
            total = float(metrics["info_nce"]) + float(metrics["proto_nce"])
            np.testing.assert_allclose(metrics["loss"], total, rtol=1e-6)
            assert (float(metrics["proto_nce"]) > 0) == (step >= 11)
        assert take_step._cache_size() == 1  # nothing is compiled anew when clusters change


@pytest.mark.slow
def test_eight_devices_equal_one(config, x64):
    config.model.dtype = "float64"  # in float32 rounding decides between clusters that are as near
    np.testing.assert_allclose(losses(config, 8, 15), losses(config, 1, 15), rtol=1e-9)


@pytest.mark.slow
def test_resumes_exactly_in_the_middle_of_an_epoch_with_clusters(config, tmp_path, monkeypatch):
    config.train.steps = 24  # clusterings after 11 and 22 steps
    state = assert_resumes_exactly(config, tmp_path, monkeypatch, after=15)
    assert (state["['extra']['assignments']"][:, :1500] >= 0).all()
