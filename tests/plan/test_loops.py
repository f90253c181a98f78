import jax
import jax.numpy as jnp
import pytest
from jax import lax
from tiny import tiny_swav

from swav_jax.plan import compiled as plan
from swav_jax.plan.loops import cost_by_text, operations, share_repeated

SIZE = 64
PRODUCT = 2 * SIZE**3  # floating-point operations


def products(outer, inner):
    """A product of matrices, then a loop of products with a loop of products in it."""

    def multiply(x, _):
        return x @ x / SIZE, None

    def rounds(x, _):
        return lax.scan(multiply, x @ x / SIZE, length=inner)[0], None

    return lambda x: lax.scan(rounds, x @ x, length=outer)[0]


@pytest.mark.parametrize(("outer", "inner"), [(5, 3), (7, 2)])
def test_every_round_of_loops_in_loops_counts(outer, inner):
    x = jax.ShapeDtypeStruct((SIZE, SIZE), jnp.float32)
    compiled = jax.jit(products(outer, inner)).lower(x).compile()
    expected = PRODUCT * (1 + outer * (1 + inner))
    assert plan.cost(compiled, "flops") == pytest.approx(expected, rel=0.05)  # and divisions
    by_text = cost_by_text(compiled.as_text(), "bytes accessed")
    assert by_text == pytest.approx(plan.cost(compiled, "bytes accessed"))
    dots = [runs for line, runs in operations(compiled.as_text()) if "/dot_general" in line]
    assert {1, outer, outer * inner} <= set(dots)


def test_a_program_without_loops_repeats_nothing():
    compiled = jax.jit(jnp.dot).lower(jnp.ones((8, 8)), jnp.ones((8, 8))).compile()
    assert share_repeated(compiled.as_text(), "flops") == 0


def test_a_step_in_parts_costs_what_its_parts_cost():
    config, flops, sums = tiny_swav(), {}, {}
    for parts in (1, 4):
        config.train.accumulate = parts
        compiled = plan.compile_step(config, jax.devices()[:4], 1500)
        flops[parts] = plan.cost(compiled, "flops")
        messages = plan.collectives(compiled).items()
        sums[parts] = sum(n for (_, kind), n in messages if kind == "all-reduce")
    assert flops[1] < flops[4] < 2 * flops[1]  # one more pass forward
    assert sums[4] > 3.2 * sums[1]  # of each part's gradients
