"""The card and the versions that the other parts' figures are of."""

import argparse
import importlib.metadata
import platform
from collections.abc import Iterator
from typing import Any

import jax

from benchmarks.gpu.cards import PEAK_FLOPS
from swav_jax.runtime.xla import leave_out_missing_tpus

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "torch")


def measure(_: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Names of the first device and versions of the packages; None for what is missing."""
    leave_out_missing_tpus()
    device = jax.devices()[0]
    yield {
        "device": device.device_kind,
        "platform": device.platform,
        "compiler": device.client.platform_version,
        "peak_flops": PEAK_FLOPS.get(device.device_kind),
        "bytes_for_xla": (device.memory_stats() or {}).get("bytes_limit"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
