"""Cosine similarity."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from swav_jax.ops.precision import full_einsum


def unit(x: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
    """Rows of length one; the zero vector stays zero."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def similarity(x: Float[Array, "*N D"], prototypes: Float[Array, "K D"]) -> Float[Array, "*N K"]:
    """Products of rows and prototypes, in full precision on any device."""
    return full_einsum("...d,kd->...k", x, prototypes)
