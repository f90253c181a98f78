import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax.ops import metrics
from swav_jax.ops.similarity import unit


def test_uniform_and_one_hot_codes():
    uniform = metrics.code_statistics(jnp.full((2, 6, 8), 1 / 8))
    assert float(uniform["code_entropy"]) == pytest.approx(np.log(8), rel=1e-6)
    assert float(uniform["largest_code"]) == pytest.approx(1 / 8)
    one_hot = metrics.code_statistics(jnp.eye(8)[jnp.array([[0, 0, 3, 5]])])
    assert float(one_hot["code_entropy"]) == 0
    assert float(one_hot["prototypes_used"]) == 3 / 8


def test_alignment_is_the_distance_of_an_images_crops():
    z = np.random.RandomState(0).randn(5, 3, 8).astype(np.float32)
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    cosines = np.einsum("bd,bvd->bv", z[:, 0], z[:, 1:])
    found = metrics.alignment(jnp.asarray(z[:, 0]), jnp.asarray(z[:, 1:]))
    assert float(found) == pytest.approx(np.mean(2 - 2 * cosines), rel=1e-5)
    assert np.isnan(metrics.alignment(jnp.ones((4, 8)), jnp.ones((4, 0, 8))))


def test_embedding_std_is_one_for_an_even_spread_and_zero_for_a_point():
    spread = unit(jnp.asarray(np.random.default_rng(0).normal(size=(5000, 16)), jnp.float32))
    assert float(metrics.embedding_std(spread)) == pytest.approx(1, abs=0.01)
    assert float(metrics.embedding_std(jnp.ones((5, 16)) / 4)) == 0


def test_norms_are_over_all_parameters():
    before = {"a": jnp.asarray([3.0, 0.0]), "b": jnp.asarray([[1.0]])}
    after = {"a": jnp.asarray([0.0, 4.0]), "b": jnp.asarray([[3.0]])}
    found = metrics.norms(before, {"a": jnp.asarray([1.0, 2.0]), "b": jnp.asarray([[2.0]])}, after)
    assert {name: float(norm) for name, norm in found.items()} == {
        "gradient_norm": 3.0,
        "parameter_norm": 5.0,
        "update_norm": pytest.approx(29**0.5),
    }


def test_first_nonfinite_is_the_first_leafs_place():
    tree = [jnp.ones(2), {"a": jnp.ones((2, 2)), "b": jnp.ones(())}]
    assert int(metrics.first_nonfinite(tree)) == -1
    tree[1]["b"] = jnp.asarray(jnp.nan)
    assert int(metrics.first_nonfinite(tree)) == 2
    tree[1]["a"] = jnp.asarray([[1.0, jnp.inf], [0.0, 0.0]])
    assert int(metrics.first_nonfinite(tree)) == 1
