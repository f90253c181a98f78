import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax import sharding

PROTOTYPES = {"params": {"prototypes": {"prototypes0": jnp.zeros((8, 4))}}}
BANK = {"extra": {"bank": jnp.zeros((2, 16, 4))}}


@pytest.mark.parametrize(
    ("state", "model", "bank_memory", "complaints"),
    [
        (PROTOTYPES | BANK, 2, "host", []),
        (PROTOTYPES, 1, "device", []),
        (BANK, 1, "device", []),
        (PROTOTYPES, 2, "host", ["mesh.bank_memory has no effect"]),
        (BANK, 2, "host", ["mesh.model 2 spreads nothing"]),
    ],
)
def test_settings_without_effect_are_warned_of(state, model, bank_memory, complaints):
    mesh = sharding.make_mesh(model, jax.devices())
    places = sharding.state_shardings(mesh, state, bank_memory=bank_memory)
    warnings = sharding.unused_settings(places, model, bank_memory)
    assert len(warnings) == len(complaints)
    for warning, complaint in zip(warnings, complaints, strict=True):
        assert complaint in warning


def test_rows_are_taken_from_whichever_device_has_them():
    mesh, draw = sharding.make_mesh(2), np.random.default_rng(0)  # 4 devices along the data
    rows = draw.integers(0, 256, (12, 3, 2), np.uint8)
    index = draw.integers(0, 12, 16).astype(np.int32)
    assert sharding.rows_here(mesh, sharding.padded_rows(mesh, 11)) == [range(12)]
    with jax.set_mesh(mesh):
        placed = sharding.put_batch(mesh, (rows, index))
        assert len(placed[0].addressable_shards[0].data) == 3
        found = jax.jit(sharding.take)(*placed)
    np.testing.assert_array_equal(found, rows[index])
    np.testing.assert_array_equal(jax.jit(sharding.take)(rows, index), rows[index])
