"""The methods by name: what `config.method.name` chooses from."""

from swav_jax.methods.contract import Method
from swav_jax.methods.swav import SwAV

METHODS: dict[str, type[Method]] = {"swav": SwAV}
