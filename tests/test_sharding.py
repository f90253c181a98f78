import jax
import jax.numpy as jnp
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
