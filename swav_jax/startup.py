"""What has to be settled before JAX starts: compilation cache, log noise."""

import logging
import os
from pathlib import Path

import jax

CACHE = Path.home() / ".cache" / "swav_jax" / "xla"


def start() -> None:
    """Keeps compiled programs for the next run and JAX's own notices off the terminal."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(CACHE))
    logging.getLogger("jax").setLevel(logging.WARNING)
