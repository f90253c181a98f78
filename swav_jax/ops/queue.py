"""A first-in first-out memory of embeddings, newest first, in one array of fixed shape."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from swav_jax.ops.similarity import unit


def random_unit(
    key: Key[Array, ""], length: int, dim: int, dtype: DTypeLike = jnp.float32
) -> Float[Array, "L D"]:
    """L rows of unit length in random directions, for a queue that is full from the start."""
    return unit(jax.random.normal(key, (length, dim), dtype))


@jax.named_scope("queue")
def push(queue: Float[Array, "*A L D"], rows: Float[Array, "*A B D"]) -> Float[Array, "*A L D"]:
    """Puts B rows in front and drops the B oldest; B is at most L."""
    return jnp.concatenate([rows, queue[..., : queue.shape[-2] - rows.shape[-2], :]], axis=-2)
