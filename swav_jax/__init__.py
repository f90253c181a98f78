"""Learning visual features by clustering: SwAV and its relatives in JAX/Flax."""

import pkgutil
from typing import Any

from swav_jax.weights.backbone import load_backbone

__all__ = ["load", "load_backbone", "prepare_process", "pretrain", "report"]

# Imported when they are used: what they import takes seconds.
LAZY = {
    "load": "swav_jax.library:load",
    "prepare_process": "swav_jax.library:prepare_process",
    "pretrain": "swav_jax.library:pretrain",
    "report": "swav_jax.library:report",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return pkgutil.resolve_name(LAZY[name])
