"""The golden numbers: what reference implementations computed on regenerated inputs."""

import importlib.util
import os
from pathlib import Path

import numpy as np

GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR", Path(__file__).parent / "golden")).resolve()


def _load_weights():
    spec = importlib.util.spec_from_file_location("golden_weights", GOLDEN_DIR / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


W = _load_weights()


def golden(name: str) -> dict[str, np.ndarray]:
    """All arrays of one golden file; scalars become Python numbers or strings."""
    with np.load(GOLDEN_DIR / name) as arrays:
        return {k: v.item() if v.ndim == 0 else v for k, v in arrays.items()}


def golden_names(pattern: str) -> list[str]:
    """The names of the golden files that match a glob pattern, sorted; at least one."""
    names = sorted(path.name for path in GOLDEN_DIR.glob(pattern))
    assert names, f"no {pattern} in {GOLDEN_DIR}"
    return names
