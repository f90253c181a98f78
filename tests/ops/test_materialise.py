import jax
import jax.numpy as jnp

from swav_jax.ops.materialise import materialised
from swav_jax.runtime.xla import step_options


def _gradient(x):
    return jax.grad(lambda x: materialised(jnp.sin(x)).sum())(x)


def test_a_cpu_program_keeps_the_barrier_until_it_runs():
    x = jnp.zeros((8, 8))
    compiled = jax.jit(_gradient, compiler_options=step_options("cpu")).lower(x).compile()
    assert "opt-barrier" in compiled.as_text()
    assert (compiled(x) == 1).all()


def test_other_platforms_have_no_barrier():
    for platform in ("tpu", "cuda"):
        lowered = jax.jit(_gradient).trace(jnp.zeros((8, 8))).lower(lowering_platforms=(platform,))
        assert "optimization_barrier" not in lowered.as_text()
