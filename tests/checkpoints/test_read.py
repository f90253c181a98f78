"""Parts of a checkpoint are read without the run, and never damaged."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints.states import assert_same_bits, make_state, payload, save_steps

from swav_jax.checkpoints.read import load_variables
from swav_jax.checkpoints.seal import CheckpointError
from swav_jax.checkpoints.store import Checkpoints


def test_parts_are_read_without_the_state(tmp_path):
    save_steps(tmp_path / "checkpoints", [1, 2])
    subtrees = ("params/backbone", "batch_stats/backbone")
    for path, seed in [
        (tmp_path, 2),
        (tmp_path / "checkpoints", 2),
        (tmp_path / "checkpoints/1", 1),
    ]:
        variables, metadata = load_variables(path, subtrees)
        state = make_state(seed)
        expected = {
            "params": {"backbone": state.params["backbone"]},
            "batch_stats": state.batch_stats,
        }
        assert_same_bits(variables, expected)
        assert metadata == {"config": {"seed": seed}}
    with pytest.raises(KeyError, match="params/backbon"):
        load_variables(tmp_path, ["params/backbon"])
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_variables(tmp_path / "nowhere")


# A failed load leaves Orbax's reads of the other arrays unawaited, to be reported when collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_part_is_an_error_and_other_damage_does_not_matter(tmp_path):
    save_steps(tmp_path, [1])
    (tmp_path / "1" / "commit_success.txt").unlink(missing_ok=True)
    load_variables(tmp_path)
    file = payload(tmp_path / "1" / "state")
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(CheckpointError):
        load_variables(tmp_path)
    gc.collect()  # here, and not within another test


@pytest.fixture
def float64():
    """Float64 in all threads, Orbax's too, until it is set otherwise."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.usefixtures("float64")
def test_float64_is_not_damage_where_jax_has_none(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.arange(3.0), "n": jnp.int32(7)}, {})
    np.testing.assert_array_equal(load_variables(tmp_path, ["w"])[0]["w"], np.arange(3.0))
    jax.config.update("jax_enable_x64", False)
    with pytest.raises(CheckpointError, match=r"holds float64 numbers, .* JAX_ENABLE_X64=1"):
        load_variables(tmp_path, ["w"])
    assert load_variables(tmp_path, ["n"])[0]["n"] == 7
