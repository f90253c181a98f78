"""A network as one StableHLO program with its weights, which JAX runs without this package."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jaxtyping import Float

from swav_jax.models.backbones import Backbone

PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(path: Path, model: Backbone, variables: dict[str, Any], size: int) -> None:
    """Writes a program from normalised images [b, size, size, 3], for any b, to features [b, F]."""

    def features(images: Float[jax.Array, "b S S 3"]) -> Any:
        # Without the barrier XLA would compute on constants, and round otherwise than in training.
        return model.apply(lax.optimization_barrier(variables), images, train=False)

    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    program = export.export(jax.jit(features), platforms=PLATFORMS)(images)
    path.write_bytes(program.serialize())


def run_stablehlo(path: Path, images: np.ndarray) -> np.ndarray:
    """The features that the program computes."""
    program = export.deserialize(bytearray(path.read_bytes()))
    return np.asarray(jax.jit(program.call)(images))
