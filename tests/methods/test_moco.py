import jax
import jax.numpy as jnp
import numpy as np
import pytest
from methods.short_runs import assert_resumes_exactly, losses
from tiny import encoder

from swav_jax import gradients
from swav_jax.config import sizes
from swav_jax.data.batch import Batch
from swav_jax.methods.contract import Clock, Sizes
from swav_jax.methods.moco import MoCo
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.optim import optimizer
from swav_jax.step import init_state, train_step

RUN = Sizes(size=1500, batch_size=128, views=2, steps_per_epoch=11, total_steps=110)


@pytest.fixture
def config(short_run):
    config = short_run("moco")
    config.method.queue_length = 512
    config.method.momentum = 0.9
    return config


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"queue_length 500 is not a multiple .* Try 512"):
        MoCo(encoder(), queue_length=500).check(RUN)
    with pytest.raises(ValueError, match=r"queue_length is 0, .* multiple of .*batch_size 128"):
        MoCo(encoder(), queue_length=0).check(RUN)
    with pytest.raises(ValueError, match=r"data\.crops"):
        MoCo(encoder(), queue_length=128).check(RUN._replace(views=1))
    assert MoCo(encoder(), queue_length=512).check(RUN) == []
    grouped = Encoder(encoder().backbone, ProjectionHead(16, 8, bn_groups=4))
    (shared,) = MoCo(grouped, queue_length=512).check(RUN)
    assert "model.bn_groups" in shared
    (long,) = MoCo(encoder(), queue_length=1024).check(RUN)
    assert "1024 is more than half of the 1500 images" in long


def test_parts_of_a_batch_that_have_their_own_batch_norm_are_warned_of(config):
    method = MoCo(encoder(), queue_length=512)
    assert method.check(sizes(config, 1500)) == []
    config.train.accumulate = 2
    (warning,) = method.check(sizes(config, 1500))
    assert "train.accumulate above 1" in warning


def test_key_encoder_follows_before_the_keys_are_made_and_keys_enter_after_the_loss():
    method = MoCo(encoder(), momentum=0.5, queue_length=12, temperature=0.5)
    rng = np.random.default_rng(0)
    crops = (jnp.asarray(rng.normal(size=(6, 2, 8, 8, 3)), jnp.float32),)
    sgd = optimizer("sgd", weight_decay=0.0, momentum=0.9)
    state = init_state(method, sgd, crops, size=6, seed=0)
    # As if training had gone on for a while: the two encoders differ.
    slow = jax.tree.map(lambda x: x + 0.1, state.params)
    state = state.replace(extra=state.extra | {"key_encoder": slow})
    after, metrics = train_step(
        state,
        Batch(crops, jnp.arange(6), jnp.arange(6)),
        method=method,
        optimizer=sgd,
        schedule=lambda step: jnp.float32(0.1),
        augment=lambda batch, epoch: batch.crops,
        steps_per_epoch=1,
        seed=0,
    )
    followed = jax.tree.map(lambda k, q: 0.5 * (k + q), slow, state.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        after.extra["key_encoder"],
        followed,
    )
    extra = {"key_encoder": followed}
    views, _ = method.forward(state.params, state.batch_stats, extra, crops)
    q, k, n = (np.asarray(x, np.float64) for x in (*views, state.extra["keys"]))
    right = np.exp((q[:, 0] * k).sum(1) / 0.5)
    expected = -np.mean(np.log(right / (right + np.exp(q[:, 0] @ n.T / 0.5).sum(1))))
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(after.extra["keys"], np.concatenate([k, n[:6]]), atol=1e-6)


def test_no_gradient_reaches_the_keys_outputs_through_parameters():
    """The loss may depend on the parameters by the queries alone."""
    method = MoCo(encoder(), queue_length=12)
    crops = (jnp.asarray(np.random.default_rng(0).normal(size=(6, 2, 8, 8, 3)), jnp.float32),)
    params, batch_stats, extra = method.init(jax.random.key(0), crops, 6)

    def keys(params):
        return method.forward(params, batch_stats, extra, crops)[0].keys

    _, pull = jax.vjp(keys, params)
    assert all(not leaf.any() for leaf in jax.tree.leaves(pull(jnp.ones((6, 8)))))


def test_eight_devices_equal_one(config):
    np.testing.assert_allclose(losses(config, 8, 6), losses(config, 1, 6), rtol=1e-4)


def test_resumes_exactly(config, tmp_path, monkeypatch):
    config.train.steps = 6
    assert_resumes_exactly(config, tmp_path, monkeypatch, after=4)


def test_with_accumulation_the_queue_gets_one_key_of_each_image():
    method = MoCo(encoder(), queue_length=24)
    crops = (jnp.asarray(np.random.default_rng(0).normal(size=(12, 2, 8, 8, 3)), jnp.float32),)
    state = init_state(
        method, optimizer("sgd", weight_decay=0.0, momentum=0.9), crops, size=12, seed=0
    )
    clock = Clock(jnp.int32(0), jnp.int32(0), jax.random.key(0))
    index = jnp.arange(12)
    _, _, batch_stats, extra, _ = gradients.in_parts(method, state, crops, index, clock, parts=3)
    assert jax.tree.structure(batch_stats) == jax.tree.structure(state.batch_stats)
    np.testing.assert_array_equal(extra["keys"][12:], state.extra["keys"][:12])
    np.testing.assert_allclose(np.linalg.norm(extra["keys"][:12], axis=1), 1, rtol=1e-5)
