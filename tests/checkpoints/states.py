"""A training state of every kind of leaf, and checkpoints of it."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from swav_jax.checkpoints.store import Checkpoints


@flax.struct.dataclass
class State:
    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    extra: Any


def make_state(seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape, dtype=np.float32):
        return jnp.asarray(rng.standard_normal(shape), dtype)

    params = {
        "backbone": {"conv1": {"kernel": normal(3, 3, 3, 16)}, "bn1": {"scale": normal(16)}},
        "head": {"kernel": normal(16, 8, dtype=jnp.bfloat16)},
    }
    return State(
        step=jnp.int32(seed),
        params=params,
        batch_stats={"backbone": {"bn1": {"mean": normal(16)}}},
        opt_state=(jax.tree.map(jnp.negative, params), (), {"count": jnp.uint32(7 + seed)}),
        extra={
            "queue": normal(64, 8),
            "full": jnp.asarray(rng.random(5) < 0.5),
            "codes": jnp.asarray(rng.integers(-128, 128, 40), jnp.int8),
            "empty": {},
            "none_yet": jnp.zeros((0, 8)),
            "special": jnp.asarray([np.nan, -0.0, np.inf, 1e-45], jnp.float32),
        },
    )


def assert_same_bits(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def save_steps(directory, steps, **keep):
    with Checkpoints(directory, **keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step), {"config": {"seed": step}})


def payload(folder):
    return max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
