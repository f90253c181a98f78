"""Max-pooling of 3x3 pixels with stride 2, as ResNets have it after their stem."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def max_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """The largest of each 3x3 window, every second pixel, padded by 1; h = ceil(H / 2).

    The gradient goes to the first of equal values. To find that place XLA:CPU carries indices
    through the whole window, an eighth of a ResNet-50 step. XLA:GPU adds to it atomically, and in a
    deterministic program sorts all places first. `in_pairs` compares twice.
    """
    if x.shape[1] % 2 or x.shape[2] % 2:
        return over_windows(x)
    return lax.platform_dependent(x, tpu=over_windows, default=in_pairs)


def over_windows(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """The same by XLA's window reduction, for any size."""
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


def in_pairs(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """The same for even sizes: along the rows, then along the columns."""
    batch, height, width, channels = x.shape
    pairs = x.reshape(batch, height, width // 2, 2, channels)
    x = _largest(pairs[:, :, :, 0], pairs[:, :, :, 1], axis=2)
    pairs = x.reshape(batch, height // 2, 2, width // 2, channels)
    return _largest(pairs[:, :, 0], pairs[:, :, 1], axis=1)


def _largest(even: Array, odd: Array, axis: int) -> Array:
    """The largest of odd[i - 1], even[i] and odd[i] along `axis`."""
    pad = [(int(i == axis), 0, 0) for i in range(odd.ndim)]
    before = lax.slice_in_dim(lax.pad(odd, jnp.array(-jnp.inf, odd.dtype), pad), 0, -1, axis=axis)
    return _larger(_larger(before, even), odd)


def _larger(a: Array, b: Array) -> Array:
    """The larger of both or a NaN; unlike that of `jnp.maximum`, the gradient of a tie is a's."""
    return jnp.where((a >= b) | jnp.isnan(a), a, b)
