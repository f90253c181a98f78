import pytest

from swav_jax.plan.chips import Chip
from swav_jax.plan.estimate import estimate, expensive, needed_bytes

PROGRAM = """
ENTRY %main (p: f32[8]) -> f32[8] {
  %a = f32[8] fusion(%p), metadata={op_name="step/conv1"}, backend_config={"estimated_cycles":"60"}
  %b = f32[8] fusion(%p), metadata={op_name="step/conv1"}, backend_config={"estimated_cycles":"20"}
  %c = f32[8] fusion(%p), metadata={op_name="step/bn1"}, backend_config={"estimated_cycles":"20"}
  %d = f32[8] add(%p, %p)
  %r = f32[1000]{0} all-reduce(%d), metadata={op_name="transpose(step)"}
  %g = f32[500]{0} all-gather(%d), metadata={op_name="metrics"}
}
"""


class Compiled:
    """What a compiled step says of itself, with figures that can be checked by hand."""

    argument_size_in_bytes, output_size_in_bytes, temp_size_in_bytes = 600, 500, 300
    alias_size_in_bytes = 400

    def memory_analysis(self):
        return self

    def cost_analysis(self):
        return {"flops": 8e9, "bytes accessed": 6e6}

    def as_text(self):
        return PROGRAM


@pytest.mark.parametrize(
    ("chip", "longest", "seconds"),
    [
        (Chip(flops=1e9, memory=2000, bandwidth=1e9, network=1e9), "compute", 8.0),
        (Chip(flops=1e12, memory=2000, bandwidth=1e6, network=1e9), "memory", 6.0),
        (Chip(flops=1e12, memory=2000, bandwidth=1e9, network=1e4), "network", 1.0),
    ],
)
def test_a_step_takes_as_long_as_what_takes_longest(chip, longest, seconds):
    found = estimate(Compiled(), chip, images=4)
    assert max(found["least_seconds"], key=found["least_seconds"].get) == longest
    assert found["step_seconds"] == pytest.approx(seconds)
    assert found["images_per_second_per_chip"] == pytest.approx(4 / seconds)
    assert found["flops_per_image"] == 2e9 and found["hbm_bytes_per_image"] == 1.5e6
    assert found["memory_share"] == (600 + 100 + 300) / 2000
    assert found["collectives"] == {"gradients all-reduce": 4000, "metrics all-gather": 2000}


def test_operations_of_one_name_count_together():
    assert expensive(PROGRAM, most=1) == [{"name": "step/conv1", "share": 0.8}]
    assert expensive("no program") == []


def test_what_the_compiler_says_of_a_program_that_does_not_fit():
    said = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
        "required for HLO temporaries (114.50G) exceeds available HBM (15.75G)."
    )
    assert needed_bytes(RuntimeError(said)) == int(114.5 * 2**30)
    assert needed_bytes(RuntimeError("RESOURCE_EXHAUSTED: other words")) == 0
    assert needed_bytes(RuntimeError("INVALID_ARGUMENT")) is None
