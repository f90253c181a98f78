"""The place of the largest of many values."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def first_largest(values: Float[Array, "*N K"]) -> Int[Array, "*N"]:
    """`argmax` of each row as int32, of equal values the first; 0 for a row with a NaN.

    In two passes, each a plain minimum or maximum. XLA:CPU with AVX-512 does not vectorise
    `jnp.argmax`, which carries values and places together: it takes four times as long.
    """
    places = jnp.arange(values.shape[-1], dtype=jnp.int32)
    below = values < values.max(axis=-1, keepdims=True)
    return jnp.where(below, values.shape[-1], places).min(axis=-1)
