"""The reference implementations' numbers on this device: `tests/golden`, as the tests read it."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from swav_jax.ops.similarity import similarity, unit
from swav_jax.runtime.xla import leave_out_missing_tpus

# What compares with the golden numbers lies beside the tests, which are no package.
sys.path.append(str(Path(__file__).parents[2] / "tests"))

import references


def measure(flags: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The greatest error of each comparison, with what a CPU is held to, the quickest first."""
    leave_out_missing_tpus()
    # These say themselves where they need full precision; nothing is set around them.
    yield {"similarity": judged(float32_similarity(), 1e-6, absolute=True)}
    yield {"sinkhorn": judged(references.sinkhorn_pairs(), 1e-5, absolute=True)}
    with jax.enable_x64(True):
        yield {"larc": judged(references.larc_pairs(), 1e-6)}
    if flags.small:
        return
    # The network computes in the precision that it is told: in float32 with all its bits, and with
    # what a GPU makes of float32 by default (TF32).
    with jax.default_matmul_precision("highest"):
        yield {"backbone": judged(references.backbone_pairs("backbone_resnet50.npz"), 1e-4)}
    with jax.enable_x64(True):
        pairs = references.trajectory_pairs("swav_trajectory_noqueue.npz")
        yield {"swav_trajectory": judged(pairs, 1e-6)}
    tf32 = judged(references.backbone_pairs("backbone_resnet50.npz"), 1e-4)
    yield {"backbone_by_default": tf32 | {"bound": None, "within": None}}


def float32_similarity() -> references.Pairs:
    """Cosines of 512 embeddings and 3,000 prototypes beside float64."""
    rng = np.random.default_rng(0)
    z, c = (np.asarray(unit(rng.normal(size=(n, 128)).astype(np.float32))) for n in (512, 3000))
    yield "cosines", np.asarray(jax.jit(similarity)(z, c)), z.astype(np.float64) @ c.T


def judged(pairs: references.Pairs, bound: float, absolute: bool = False) -> dict[str, Any]:
    """The greatest error of all pairs, and where it is.

    Args:
      pairs: names, our arrays and those of the reference.
      bound: of the error, from `tests/test_parity.py`.
      absolute: the greatest difference of two numbers; else the length of an array's difference as
        a share of the reference's length, or the length alone where that is 0.
    """
    errors = {}
    for name, ours, theirs in pairs:
        apart = ours.astype(np.float64) - theirs
        length = np.linalg.norm(theirs) or 1.0
        errors[name] = float(np.abs(apart).max() if absolute else np.linalg.norm(apart) / length)
    worst = max(errors, key=lambda name: errors[name])
    within = errors[worst] < bound
    return {"error": errors[worst], "of": worst, "bound": bound, "within": within}
