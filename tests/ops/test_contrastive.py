import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax import sharding
from swav_jax.ops.contrastive import info_nce, nt_xent, proto_nce, sample_negatives
from swav_jax.ops.queue import random_unit


def unit(*shape, seed=0):
    x = np.random.default_rng(seed).normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def single(*arrays):
    return [jnp.asarray(x, jnp.float32) for x in arrays]


def test_info_nce_against_loops():
    q, k, n = unit(5, 3, 4), unit(5, 4, seed=1), unit(7, 4, seed=2)
    nll, hits = [], []
    for b in range(5):
        for v in range(3):
            right, wrong = q[b, v] @ k[b] / 0.2, n @ q[b, v] / 0.2
            nll.append(-np.log(np.exp(right) / (np.exp(right) + np.exp(wrong).sum())))
            hits.append(right > wrong.max())
    ours = info_nce(*single(q, k, n), temperature=0.2)
    np.testing.assert_allclose(ours.loss, np.mean(nll), rtol=1e-6)
    np.testing.assert_allclose(ours.accuracy, np.mean(hits), rtol=1e-6)
    assert 0 < np.mean(hits) < 1


def slow_nt_xent(z, temperature):
    """The direct double loop; of an image's crops only the right one is a candidate."""
    images, crops = z.shape[:2]
    nll, hits = [], []
    for b in range(images):
        for v in range(crops):
            wrong = [
                np.exp(z[b, v] @ z[c, u] / temperature)
                for c in range(images)
                for u in range(crops)
                if c != b
            ]
            for w in set(range(crops)) - {v}:
                right = np.exp(z[b, v] @ z[b, w] / temperature)
                nll.append(-np.log(right / (right + sum(wrong))))
                hits.append(right > max(wrong))
    return np.mean(nll), np.mean(hits)


@pytest.mark.parametrize("crops", [2, 5])
def test_nt_xent_against_loops(crops):
    z = unit(6, crops, 4)
    loss, accuracy = slow_nt_xent(z, 0.1)
    ours = nt_xent(*single(z), temperature=0.1)
    np.testing.assert_allclose(ours.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(ours.accuracy, accuracy, rtol=1e-6)


def test_nt_xent_of_two_crops_is_the_softmax_over_all_other_crops():
    z = unit(6, 2, 4)
    rows = z.swapaxes(0, 1).reshape(12, 4)
    scores = rows @ rows.T / 0.1
    np.fill_diagonal(scores, -np.inf)
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    textbook = -np.mean(log_p[np.arange(12), (np.arange(12) + 6) % 12])
    np.testing.assert_allclose(nt_xent(*single(z), temperature=0.1).loss, textbook, rtol=1e-5)


def test_nt_xent_on_eight_devices_equals_one():
    (z,) = single(unit(16, 3, 4))

    def spread(z):
        return sharding.on_blocks(
            lambda z, sample_axes, prototype_axes: (
                nt_xent(z, temperature=0.1, sample_axes=sample_axes).loss
            ),
            (z,),
            in_specs=(sharding.SAMPLES,),
            out_specs=sharding.WHOLE,
        )

    alone = jax.value_and_grad(spread)(z)
    with jax.set_mesh(sharding.make_mesh()):
        compiled = jax.jit(jax.value_and_grad(spread)).lower(z).compile()
        many = compiled(z)
    np.testing.assert_allclose(many[0], alone[0], rtol=1e-6)
    np.testing.assert_allclose(many[1], alone[1], rtol=1e-4, atol=1e-7)
    # 48 crops in all, 6 on each device: no device has the whole 48 x 48 matrix.
    shapes = compiled.as_text()
    assert "f32[2,3,16,3]" in shapes or "f32[6,48]" in shapes
    assert "f32[48,48]" not in shapes and "f32[16,3,16,3]" not in shapes


def test_proto_nce_against_loops():
    q, prototypes = unit(4, 2, 3), unit(9, 3, seed=1)
    phi = np.random.default_rng(2).uniform(0.1, 0.4, 9)
    positives, negatives = np.array([5, 1, 5, 0]), np.array([8, 3, 2])
    nll = []
    for b in range(4):
        for v in range(2):
            logits = prototypes @ q[b, v] / phi
            candidates = np.exp(logits[np.concatenate([positives, negatives])]).sum()
            nll.append(-np.log(np.exp(logits[positives[b]]) / candidates))
    arrays = *single(q, prototypes, phi), jnp.asarray(positives), jnp.asarray(negatives)
    np.testing.assert_allclose(proto_nce(*arrays).loss, np.mean(nll), rtol=1e-5)
    np.testing.assert_allclose(jax.jit(proto_nce)(*arrays).loss, np.mean(nll), rtol=1e-5)


def test_proto_nce_takes_no_notice_of_images_without_cluster():
    q, prototypes, phi = single(unit(4, 2, 3), unit(9, 3, seed=1), np.full(9, 0.2))
    negatives = jnp.array([8, 3, 2])
    some = proto_nce(q, prototypes, phi, jnp.array([5, -1, -1, 0]), negatives)
    those = proto_nce(q[jnp.array([0, 3])], prototypes, phi, jnp.array([5, 0]), negatives)
    np.testing.assert_allclose(some, those, rtol=1e-6)

    def loss(q):
        return proto_nce(q, jnp.zeros((9, 3)), jnp.ones(9), jnp.full(4, -1), jnp.arange(3)).loss

    none, gradient = jax.value_and_grad(loss)(q)
    assert none == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(q))


def test_an_images_own_prototype_is_found_even_when_others_share_it():
    prototypes = jnp.eye(3)
    q, positives = prototypes[jnp.array([0, 0, 1])][:, None], jnp.array([0, 0, 1])
    found = proto_nce(q, prototypes, jnp.ones(3), positives, jnp.array([2]))
    assert found.accuracy == 1
    wrong = proto_nce(q, prototypes, jnp.ones(3), jnp.array([1, 0, 1]), jnp.array([2]))
    np.testing.assert_allclose(wrong.accuracy, 2 / 3, rtol=1e-6)


def test_negatives_are_distinct_and_never_the_batchs_own():
    positives = jnp.array([3, 3, 0, 11, -1])
    draw = jax.jit(sample_negatives, static_argnums=(2, 3))
    counts = np.zeros(12)
    for seed in range(400):
        negatives = np.asarray(draw(jax.random.key(seed), positives, 12, 4))
        assert len(set(negatives)) == 4
        counts[negatives] += 1
    assert not counts[[0, 3, 11]].any()
    others = np.delete(counts, [0, 3, 11])
    expected = 400 * 4 / 9
    # Drawn without replacement counts vary less than a chi-square: 26 is its 99.9 % point.
    assert ((others - expected) ** 2 / expected).sum() < 26
    everything = draw(jax.random.key(0), positives, 12, 9)
    np.testing.assert_array_equal(np.sort(everything), [1, 2, 4, 5, 6, 7, 8, 9, 10])


def test_a_fresh_queue_is_full_of_different_unit_rows():
    rows = random_unit(jax.random.key(0), 64, 8)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    # The mean of 64 random directions has a length of about 1/8.
    assert np.linalg.norm(rows.mean(0)) < 0.4
