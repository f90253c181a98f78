import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax.models.heads import ProjectionHead, init_prototypes


def _shapes(head, features):
    variables = head.init(jax.random.key(0), jnp.zeros((2, features)), train=False)
    return jax.tree.map(jnp.shape, variables["params"])


def test_layers_are_named_by_their_place_in_the_torch_sequence():
    assert _shapes(ProjectionHead(hidden=0, dim=5), 7) == {
        "projection_head": {"kernel": (7, 5), "bias": (5,)}
    }
    two = {
        "projection_head_0": {"kernel": (7, 6), "bias": (6,)},
        "projection_head_1": {"scale": (6,), "bias": (6,)},
    }
    assert _shapes(ProjectionHead(hidden=6, dim=5), 7) == two | {
        "projection_head_3": {"kernel": (6, 5), "bias": (5,)}
    }
    assert _shapes(ProjectionHead(hidden=6, dim=5, layers=3), 7) == two | {
        "projection_head_3": {"kernel": (6, 6), "bias": (6,)},
        "projection_head_4": {"scale": (6,), "bias": (6,)},
        "projection_head_6": {"kernel": (6, 5), "bias": (5,)},
    }


def test_without_batch_norm_the_sequence_is_shorter():
    head = ProjectionHead(hidden=6, dim=5, norm=False)
    assert _shapes(head, 7) == {
        "projection_head_0": {"kernel": (7, 6), "bias": (6,)},
        "projection_head_2": {"kernel": (6, 5), "bias": (5,)},
    }
    x = np.random.default_rng(0).normal(size=(16, 7)).astype(np.float32)
    variables = head.init(jax.random.key(0), x, train=False)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    first, last = params["projection_head_0"], params["projection_head_2"]
    hidden = np.maximum(x @ first["kernel"] + first["bias"], 0)
    z = head.apply(variables, x, train=True)
    np.testing.assert_allclose(z, hidden @ last["kernel"] + last["bias"], atol=1e-5)


def test_computes_linear_batch_norm_relu_linear():
    head = ProjectionHead(hidden=6, dim=5)
    x = np.random.default_rng(0).normal(size=(16, 7)).astype(np.float32)
    variables = head.init(jax.random.key(0), x, train=False)
    z, _ = head.apply(variables, x, train=True, mutable=["batch_stats"])
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    first, last = params["projection_head_0"], params["projection_head_3"]
    hidden = x @ first["kernel"] + first["bias"]
    hidden = np.maximum((hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5), 0)
    np.testing.assert_allclose(z, hidden @ last["kernel"] + last["bias"], atol=1e-5)


def _assert_uniform(x, bound):
    """Mean, spread and range of U(-bound, bound), from thousands of draws."""
    x = np.asarray(x)
    assert np.abs(x).max() <= bound
    assert np.abs(x).max() > 0.99 * bound
    np.testing.assert_allclose(x.std(), bound / np.sqrt(3), rtol=0.03)
    assert abs(x.mean()) < 0.03 * bound


def test_linear_layers_start_as_torch_starts_them():
    layers = ProjectionHead(hidden=2048, dim=128).init(
        jax.random.key(0), jnp.zeros((2, 64)), train=False
    )["params"]
    _assert_uniform(layers["projection_head_0"]["kernel"], 64**-0.5)
    _assert_uniform(layers["projection_head_0"]["bias"], 64**-0.5)
    _assert_uniform(layers["projection_head_3"]["kernel"], 2048**-0.5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_prototypes_have_torch_layout_and_start(dtype):
    prototypes = init_prototypes(jax.random.key(0), 300, 64, dtype)
    assert prototypes.shape == (300, 64)
    assert prototypes.dtype == dtype
    _assert_uniform(prototypes.astype(jnp.float32), 64**-0.5)
