"""Learning visual features by clustering: SwAV and its relatives in JAX/Flax."""

from swav_jax.weights.backbone import load_backbone

__all__ = ["load_backbone"]
