from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from swav_jax.methods.contract import Clock, Sizes
from swav_jax.methods.swav import SwAV
from swav_jax.models.backbones import backbone
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead


def swav(**settings):
    encoder = Encoder(backbone("resnet10_tiny", stem="cifar"), ProjectionHead(16, 8))
    return SwAV(encoder, prototypes=6, heads=settings.pop("heads", 1), **settings)


def clock(step, epoch=0):
    return Clock(jnp.int32(step), jnp.int32(epoch), jax.random.key(0))


def embeddings(seed, images=4, crops=3, dim=8):
    z = np.random.default_rng(seed).normal(size=(images, crops, dim)).astype(np.float32)
    return jnp.asarray(z / np.linalg.norm(z, axis=-1, keepdims=True))


def prototypes(seed=9, heads=1):
    return {f"prototypes{i}": embeddings(seed + i, images=6, crops=1)[:, 0] for i in range(heads)}


def test_prototypes_are_frozen_for_the_first_steps_only():
    method = swav(freeze_prototypes_steps=2)
    assert [bool(method.frozen(clock(step))["prototypes"]) for step in range(4)] == [1, 1, 0, 0]


def test_each_step_starts_from_unit_prototypes_and_leaves_the_rest():
    params = {"backbone": {"w": jnp.full((2,), 3.0)}, "prototypes": {"prototypes0": 5 * jnp.eye(6)}}
    after, _ = swav().before_step(params, {})
    np.testing.assert_allclose(after["prototypes"]["prototypes0"], np.eye(6))
    np.testing.assert_array_equal(after["backbone"]["w"], params["backbone"]["w"])


def test_queue_fills_from_its_start_epoch_and_is_used_once_full():
    method = swav(queue_length=8, queue_start_epoch=1)
    params = {"prototypes": prototypes()}
    extra = {"queue": jnp.zeros((2, 8, 8)), "queue_filled": jnp.zeros((), jnp.int32)}
    used, batches = [], []
    for step in range(5):
        batches.append(embeddings(step))
        _, (extra, metrics) = method.loss(
            params, extra, batches[-1], jnp.arange(4), clock(step, epoch=step // 2)
        )
        used.append(float(metrics["queue_used"]))
    # Epoch 1 starts at step 2: full after steps 2 and 3, used in step 4.
    assert used == [0, 0, 0, 0, 1]
    expected = np.concatenate([batches[4], batches[3]])[:, :2].transpose(1, 0, 2)
    np.testing.assert_array_equal(extra["queue"], expected)


def test_a_queue_that_is_never_used_is_warned_of_and_balances_nothing():
    run = Sizes(size=100, batch_size=4, views=2, steps_per_epoch=2, total_steps=5)
    method = swav(queue_length=8, queue_start_epoch=1, freeze_prototypes_steps=0)
    assert method.check(run) == []  # it is used in step 4, the last, as in the test above
    (warning,) = method.check(run._replace(total_steps=4))
    assert "queue_start_epoch 1 and the 2 steps in which it fills leave none of the" in warning
    unused, few = replace(method, prototypes=17).check(run._replace(total_steps=4))
    assert unused == warning and "computed from 4 samples for 17 prototypes" in few


def test_a_full_queue_changes_the_codes_an_unfilled_one_does_not():
    params, z = {"prototypes": prototypes()}, embeddings(0)
    plain, _ = swav().loss(params, {}, z, jnp.arange(4), clock(0))
    memory = jnp.stack([embeddings(5, images=8)[:, 0]] * 2)
    losses = [
        swav(queue_length=8).loss(
            params,
            {"queue": memory, "queue_filled": jnp.int32(filled)},
            z,
            jnp.arange(4),
            clock(0),
        )[0]
        for filled in (4, 8)
    ]
    np.testing.assert_allclose(losses[0], plain, rtol=1e-6)
    assert abs(losses[1] - plain) > 1e-3


def test_heads_are_averaged():
    both, z = prototypes(heads=2), embeddings(0)
    alone = [
        swav().loss({"prototypes": {"prototypes0": p}}, {}, z, jnp.arange(4), clock(0))[0]
        for p in both.values()
    ]
    together, _ = swav(heads=2).loss({"prototypes": both}, {}, z, jnp.arange(4), clock(0))
    np.testing.assert_allclose(together, np.mean(alone), rtol=1e-6)


def test_no_gradient_flows_through_the_codes():
    """Hard codes have no gradient at all, yet soft and hard targets are treated alike."""
    params, z = {"prototypes": prototypes()}, embeddings(0, crops=2)

    def loss(z):
        return swav(assignment_crops=(0,)).loss(params, {}, z, jnp.arange(4), clock(0))[0]

    gradient = jax.grad(loss)(z)
    np.testing.assert_array_equal(gradient[:, 0], 0)  # crop 0 is only assigned, never predicted
    assert np.abs(gradient[:, 1]).max() > 0


def test_hard_codes_are_one_hot():
    params, z = {"prototypes": prototypes()}, embeddings(0)
    _, (_, metrics) = swav(hard_codes=True).loss(params, {}, z, jnp.arange(4), clock(0))
    assert float(metrics["largest_code"]) == 1
    assert float(metrics["code_entropy"]) == 0
