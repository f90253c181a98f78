"""A first-in first-out memory of embeddings, newest first, in one array of fixed shape."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def push(queue: Float[Array, "*A L D"], rows: Float[Array, "*A B D"]) -> Float[Array, "*A L D"]:
    """Puts B rows in front and drops the B oldest; B is at most L."""
    return jnp.concatenate([rows, queue[..., : queue.shape[-2] - rows.shape[-2], :]], axis=-2)
