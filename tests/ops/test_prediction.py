import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from swav_jax.ops import prediction


def test_swapped_prediction_is_the_double_loop():
    rng = np.random.default_rng(0)
    b, v, k, assignment = 5, 4, 7, (0, 2)
    scores = rng.normal(size=(b, v, k)).astype(np.float32)
    codes = rng.dirichlet(np.ones(k), size=(2, b)).astype(np.float32)
    expected = 0.0
    for a, crop in enumerate(assignment):
        others = [u for u in range(v) if u != crop]
        for u in others:
            log_p = log_softmax(scores[:, u] / 0.1, axis=1)
            expected -= (codes[a] * log_p).sum(1).mean() / len(others) / len(assignment)
    ours = prediction.swapped_prediction(jnp.asarray(scores), jnp.asarray(codes), assignment, 0.1)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_equal_scores_give_ln_k():
    codes = jnp.full((2, 3, 10), 0.1)
    loss = prediction.swapped_prediction(jnp.zeros((3, 4, 10)), codes, (0, 1), 0.1)
    np.testing.assert_allclose(loss, np.log(10), rtol=1e-6)


def test_cross_entropy_leaves_out_images_without_a_cluster():
    logits = np.random.RandomState(1).normal(size=(3, 2, 5))
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    loss, accuracy = prediction.cross_entropy(
        jnp.asarray(logits, jnp.float32), jnp.array([4, -1, 0])
    )
    np.testing.assert_allclose(loss, -(log_p[0, :, 4] + log_p[2, :, 0]).mean() / 2, rtol=1e-6)
    hits = (logits[0].argmax(-1) == 4).sum() + (logits[2].argmax(-1) == 0).sum()
    np.testing.assert_allclose(accuracy, hits / 4)
    nothing = prediction.cross_entropy(jnp.asarray(logits, jnp.float32), jnp.full(3, -1))
    assert nothing == (0, 0)
