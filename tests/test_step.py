import jax
from tiny import tiny_swav

from swav_jax.run import build
from swav_jax.step import batch_of, compiled_step, draw_state, state_shapes


def test_a_fresh_state_is_what_its_shapes_say():
    run = build(tiny_swav())
    with jax.set_mesh(run.mesh):
        shapes = state_shapes(run)
        state = draw_state(run, shapes)
    assert jax.tree.structure(state) == jax.tree.structure(shapes)
    for leaf, shape in zip(jax.tree.leaves(state), jax.tree.leaves(shapes), strict=True):
        assert (leaf.shape, leaf.dtype) == (shape.shape, shape.dtype)
        assert leaf.sharding == shape.sharding


def test_a_step_for_a_cpu_is_compiled_with_its_barriers():
    run = build(tiny_swav())
    with jax.set_mesh(run.mesh):
        shapes = state_shapes(run)
        compiled = compiled_step(run, shapes).lower(shapes, batch_of(run)).compile()
    assert "opt-barrier" in compiled.as_text()
