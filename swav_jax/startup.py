"""What has to be settled before JAX starts: compiler flags, compilation cache, log noise."""

import logging
import os
from pathlib import Path

import jax
import jaxlib

CACHE = Path.home() / ".cache" / "swav_jax" / "xla"

# XLA:CPU hands convolutions to YNNPACK, whose weight gradients take seven times as long as Eigen's.
CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
KNOWS_CPU_FLAG = ("0.10.",)  # an XLA that does not know a flag ends the process


def start() -> None:
    """Prepares this process; has to come before the first use of a device."""
    use_fast_cpu_convolutions()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(CACHE))
    logging.getLogger("jax").setLevel(logging.WARNING)


def use_fast_cpu_convolutions() -> None:
    """Chooses the faster of XLA:CPU's two ways to convolve, where that can be chosen."""
    flags = os.environ.get("XLA_FLAGS", "")
    if jaxlib.__version__.startswith(KNOWS_CPU_FLAG) and "ynn_fusion_type" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {CPU_FLAG}".strip()
