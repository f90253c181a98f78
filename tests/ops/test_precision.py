"""What accelerators would round, read in the programs that are lowered for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_config

from swav_jax import sharding
from swav_jax.evals.knn import neighbours
from swav_jax.methods import METHODS
from swav_jax.methods.contract import Clock, TrainState
from swav_jax.ops.kmeans import kmeans
from swav_jax.ops.precision import at_least_float32
from swav_jax.ops.whitening import pca_whiten
from swav_jax.run import make_method

METHOD_SETTINGS = {
    "swav": {"queue_length": 32},
    "moco": {"queue_length": 32},
    "pcl": {"queue_length": 32, "negative_prototypes": 4, "warmup_epochs": 0},
}
for_accelerators = pytest.mark.parametrize("platform", ["tpu", "cuda"])


def products(platform, function, *arguments):
    """The products of a program for a platform, as lines of StableHLO."""
    traced = jax.jit(function).trace(*arguments)
    lines = traced.lower(lowering_platforms=(platform,)).as_text().splitlines()
    kinds = "stablehlo.dot_general", "stablehlo.convolution"
    return [line for line in lines if any(kind in line for kind in kinds)]


def rounded(lines):
    return [line for line in lines if "precision = [HIGHEST, HIGHEST]" not in line]


def example(name):
    """A small method, and the shapes of its state and of a batch's outputs."""
    config = tiny_config(name)
    config.method.update(METHOD_SETTINGS.get(name, {}))
    method = make_method(config)
    crops = [jax.ShapeDtypeStruct((16, 2, size, size, 3), jnp.float32) for size in (16, 8)]

    def start(crops):
        params, batch_stats, extra = method.init(jax.random.key(0), crops, 100)
        outputs, batch_stats = method.forward(params, batch_stats, extra, crops)
        return TrainState(jnp.int32(0), params, batch_stats, (), extra), outputs

    return method, *jax.eval_shape(start, crops)


@for_accelerators
@pytest.mark.parametrize("name", METHODS)
def test_losses_and_their_gradients_round_no_product(name, platform):
    method, state, outputs = example(name)

    def loss(params, outputs, extra, index):
        clock = Clock(jnp.int32(0), jnp.int32(0), jax.random.key(0))
        return method.loss(params, extra, outputs, index, clock)

    found = products(
        platform,
        jax.value_and_grad(loss, argnums=(0, 1), has_aux=True),
        state.params,
        outputs,
        state.extra,
        jax.ShapeDtypeStruct((16,), jnp.int32),
    )
    assert found and not rounded(found)


@for_accelerators
@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].cluster_every_epochs])
def test_clusterings_round_no_product(name, platform, monkeypatch):
    """Between visits of the images, whose features are the network's products."""
    monkeypatch.setattr(sharding, "zeros", lambda shape, dtype, _: jnp.zeros(shape, dtype))
    method, state, _ = example(name)

    def cluster(state):
        return method.cluster(state, lambda fold, carry, view: carry, 1, jax.random.key(0))

    found = products(platform, cluster, state)
    assert found and not rounded(found)


WIDE = jax.ShapeDtypeStruct((1000, 512), jnp.float32)  # TPUs diagonalise more than 256 by products
PROGRAMS = {
    "whitening": lambda x: pca_whiten(x, 64),
    "k-means": lambda x: kmeans(x, x[:10], iterations=2, split_empty=jax.random.key(0)),
    "spherical k-means": lambda x: kmeans(x, x[:10], iterations=2, spherical=True),
    "nearest neighbours": lambda x: neighbours(np.ones((50, 512), np.float32), x, 5),
}


@for_accelerators
@pytest.mark.parametrize("program", PROGRAMS)
def test_statistics_of_wide_features_round_no_product(program, platform):
    found = products(platform, PROGRAMS[program], WIDE)
    assert found and not rounded(found)


@for_accelerators
def test_networks_keep_the_platforms_default(platform):
    method, state, _ = example("swav")
    crops = [jax.ShapeDtypeStruct((16, 2, 16, 16, 3), jnp.float32)]
    found = products(platform, method.forward, state.params, state.batch_stats, {}, crops)
    assert found and rounded(found) == found


def test_short_floats_become_float32():
    found = [at_least_float32(x) for x in ("bfloat16", "float16", "float32", "float64")]
    assert found == [jnp.float32, jnp.float32, jnp.float32, jnp.float64]
