import jax
import jax.numpy as jnp
import numpy as np
import pytest
from methods.short_runs import assert_resumes_exactly, losses
from tiny import encoder

from swav_jax.config import ConfigError
from swav_jax.methods.contract import TrainState
from swav_jax.methods.sela_v2 import SeLaV2, balanced_assignments
from swav_jax.ops.similarity import unit
from swav_jax.run import build


@pytest.fixture
def config(short_run):
    config = short_run("sela_v2")
    config.model.prototype_heads = 2
    config.method.sinkhorn_iterations = 5
    config.optim.base_lr = 0.02
    return config


def plain_sinkhorn(scores, epsilon, iterations):
    """Alternating normalisations of exp(S / epsilon), in float64."""
    q = np.exp(np.asarray(scores, np.float64) / epsilon)
    for _ in range(iterations):
        q /= q.sum(0, keepdims=True) * q.shape[1]
        q /= q.sum(1, keepdims=True) * q.shape[0]
    return q * len(q)


def random_rows(seed, rows, dim):
    return unit(jax.random.normal(jax.random.key(seed), (rows, dim)))


def test_assignments_are_those_of_a_plain_sinkhorn():
    rows, prototypes = random_rows(0, 90, 6), random_rows(1, 7, 6)
    padded = jnp.pad(rows, ((0, 10), (0, 0)))
    found, residual = balanced_assignments(padded, prototypes, epsilon=0.1, iterations=20)
    codes = plain_sinkhorn(np.asarray(rows) @ np.asarray(prototypes).T, 0.1, 20)
    np.testing.assert_array_equal(found[:90], codes.argmax(1))
    assert (found[90:] == -1).all()
    expected = np.abs(codes.mean(0) - 1 / 7).sum()
    np.testing.assert_allclose(residual, expected, atol=1e-5)
    nearest = np.argmax(np.asarray(rows) @ np.asarray(prototypes).T, 1)
    assert (found[:90] != nearest).any()  # balance decides


def test_every_head_assigns_its_bank_and_prototypes_stay():
    method = SeLaV2(encoder(), prototypes=5, heads=3, epsilon=0.1)
    bank = jnp.stack([random_rows(2, 40, 6), random_rows(3, 40, 6)])
    prototypes = {f"prototypes{h}": 3 * random_rows(4 + h, 5, 6) for h in range(3)}
    state = TrainState(
        step=jnp.int32(7),
        params={"prototypes": prototypes},
        batch_stats={},
        opt_state=(),
        extra={"bank": bank, "assignments": jnp.full((3, 40), -1, jnp.int32)},
    )
    clustered, metrics = method.cluster(state, lambda *_: None, 1, jax.random.key(0))
    for head in range(3):
        alone, _ = balanced_assignments(
            bank[head % 2], prototypes[f"prototypes{head}"] / 3, epsilon=0.1, iterations=30
        )
        np.testing.assert_array_equal(clustered.extra["assignments"][head], alone)
    assert metrics["marginal_residual"] < 0.05
    jax.tree.map(np.testing.assert_array_equal, clustered.params, state.params)


def test_prototypes_learn_and_go_back_to_the_sphere():
    method = SeLaV2(encoder(), prototypes=5, heads=1)
    params = {"prototypes": {"prototypes0": 3 * random_rows(4, 5, 6)}}
    extra = {
        "bank": jnp.zeros((2, 3840, 6)),
        "assignments": jnp.full((1, 3840), -1, jnp.int32).at[0, 2].set(3),
    }
    params, _ = method.before_step(params, extra)
    prototypes = params["prototypes"]["prototypes0"]
    np.testing.assert_allclose(jnp.linalg.norm(prototypes, axis=1), 1, rtol=1e-6)
    embedding = random_rows(5, 3, 6)[None]
    gradient = jax.grad(
        lambda p: method.loss(p, extra, embedding, jnp.array([2]), None)[0], argnums=0
    )(params)["prototypes"]["prototypes0"]
    scores = jax.nn.softmax(embedding[0] @ prototypes.T / 0.1)
    expected = (scores - jax.nn.one_hot(jnp.full(3, 3), 5)).T @ embedding[0] / 3 / 0.1
    np.testing.assert_allclose(gradient, expected, atol=1e-5)
    assert method.frozen(None) == {}


def test_more_clusters_than_images_are_refused(config):
    config.model.prototypes = 1409
    with pytest.raises(ConfigError, match=r"prototypes 1409 exceeds the 1408 images"):
        build(config)


@pytest.mark.slow
def test_eight_devices_equal_one(config):
    alone = losses(config, 1, 13)
    config.mesh.model = 2
    np.testing.assert_allclose(losses(config, 8, 13), alone, rtol=1e-4)


@pytest.mark.slow
def test_resume_equals_a_run_in_one_go(config, tmp_path, monkeypatch):
    config.train.epochs = 2
    assert_resumes_exactly(config, tmp_path, monkeypatch, after=15)
