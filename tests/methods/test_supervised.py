from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from methods.short_runs import assert_resumes_exactly, losses
from processes import metrics
from tiny import encoder, start

from swav_jax import sharding, train
from swav_jax.config import ConfigError
from swav_jax.data.sources import open_source
from swav_jax.methods.supervised import Supervised
from swav_jax.run import build


@pytest.fixture
def config(short_run):
    """Fine-tuning on digits, the backbone at a tenth of the classifier's learning rate."""
    config = short_run("supervised")
    config.data.crops = ((1, 16, 0.4, 1.0),)
    config.model.prototypes = 10
    config.method.backbone_lr_factor = 0.1
    config.optim.schedule = "cosine_by_epoch"
    config.train.epochs = 3
    return config


@pytest.fixture
def linear(config):
    config.method.backbone_lr_factor = 0.0
    return config


def batches_of(run, state, steps):
    batches = train.batches_from(run, state, 0)
    return [next(batches) for _ in range(steps)]


def test_the_classifier_on_a_frozen_backbone_is_that_of_sgd_in_numpy(linear, x64):
    linear.model.dtype, linear.data.batch_size = "float64", 384
    run, steps = build(linear, devices=jax.devices()[:1]), 8  # of 3 an epoch
    with jax.set_mesh(run.mesh):
        state, take_step = start(run)
        backbone = jax.device_get((state.params["backbone"], state.batch_stats))
        w, b = (np.array(state.params["classifier"][name]) for name in ("kernel", "bias"))
        features = jax.jit(partial(run.method.encoder.apply, method="features"))
        variables = {"params": {"backbone": backbone[0]}, "batch_stats": backbone[1]}
        momentum_w, momentum_b, expected, found = 0, 0, [], []
        for step, batch in enumerate(batches_of(run, state, steps)):
            epoch = step // run.sizes.steps_per_epoch
            x = np.array(features(variables, run.augment(batch, epoch=epoch)[0][:, 0]))
            logits = x @ w + b
            p = np.exp(logits - logits.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            y = np.eye(10)[run.source.labels[batch.index]]
            expected.append(-np.log(p[y == 1]).mean())
            lr = 0.001 + 0.5 * (0.1 - 0.001) * (1 + np.cos(np.pi * epoch / 3))
            momentum_w = 0.9 * momentum_w + x.T @ (p - y) / len(x) + 1e-4 * w
            momentum_b = 0.9 * momentum_b + (p - y).mean(0) + 1e-4 * b
            w, b = w - lr * momentum_w, b - lr * momentum_b

            state, values = take_step(state, sharding.put_batch(run.mesh, batch))
            found.append(float(values["loss"]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(state.params["classifier"]["kernel"], w, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(state.params["classifier"]["bias"], b, rtol=1e-6, atol=1e-9)
    after = jax.device_get((state.params["backbone"], state.batch_stats))
    jax.tree.map(np.testing.assert_array_equal, after, backbone)


def test_the_backbone_moves_at_its_own_rate_and_its_statistics_with_it(config, x64):
    config.model.dtype, moved = "float64", {}
    for factor in (1.0, 0.25):
        config.method.backbone_lr_factor = factor
        run = build(config)
        with jax.set_mesh(run.mesh):
            state, take_step = start(run)
            before = jax.device_get(state)
            (batch,) = batches_of(run, state, 1)
            after, _ = take_step(state, sharding.put_batch(run.mesh, batch))
            moved[factor] = jax.tree.map(jnp.subtract, after.params, before.params)
    np.testing.assert_allclose(
        moved[0.25]["backbone"]["conv1"]["kernel"],
        0.25 * moved[1.0]["backbone"]["conv1"]["kernel"],
        rtol=1e-9,
    )
    jax.tree.map(np.testing.assert_array_equal, moved[0.25]["classifier"], moved[1.0]["classifier"])
    pairs = zip(
        jax.tree.leaves(after.batch_stats), jax.tree.leaves(before.batch_stats), strict=True
    )
    assert all((np.asarray(new) != old).any() for new, old in pairs)


def test_images_without_a_label_take_no_part():
    method = Supervised(encoder(), labels=None, prototypes=4)
    classifier = {"kernel": jax.random.normal(jax.random.key(0), (16, 4)), "bias": jnp.ones(4)}
    features = jax.random.normal(jax.random.key(1), (6, 1, 16))
    extra = {"labels": jnp.array([3, -1, 0, -1, 2, -1, 1])}

    def loss(params, outputs, index):
        return method.loss(params, extra, outputs, index, None)[0]

    take = jax.value_and_grad(loss)
    numbers, labelled = jnp.array([0, 1, 2, 3, 4, 5]), jnp.array([0, 2, 4])
    everything = take({"classifier": classifier}, features, numbers)
    part = take({"classifier": classifier}, features[labelled], labelled)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), everything, part)


def test_it_learns_is_evaluated_and_resumes(config, tmp_path, monkeypatch):
    config.data.test = "test"
    config.data.crops = ((1, 16, 0.9, 1.0),)
    config.data.batch_size, config.optim.base_lr = 32, 0.5  # 46 steps an epoch
    leaves = assert_resumes_exactly(config, tmp_path, monkeypatch, after=60)
    labels = open_source("digits", "", "train").labels
    np.testing.assert_array_equal(leaves["['extra']['labels']"], labels)
    lines = metrics(tmp_path / "whole")
    scores = [line["classify_top1"] for line in lines if "classify_top1" in line]
    assert len(scores) == 3 and scores[-1] > 30
    assert not any("knn_top1" in line for line in lines)


def test_eight_devices_equal_one(config):
    np.testing.assert_allclose(losses(config, 8, 6), losses(config, 1, 6), rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (None, "learns from labels, and the training images have none"),
        (np.array([-1, 3, 3]), "all training images with a label are of one class"),
        (np.array([-1, 10, 3]), "and the training images have 11: set it to that"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(config, labels, complaint):
    source = open_source("digits", "", "train")
    if labels is not None:
        labels = np.resize(labels, source.size).astype(np.int32)
    object.__setattr__(source, "find_labels", lambda: labels)
    with pytest.raises(ConfigError, match=complaint):
        build(config, source)
