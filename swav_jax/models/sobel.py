"""A fixed Sobel filter in front of a network: it sees edges instead of colours."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from swav_jax.models.conv import conv

# Differences to the right and downwards, each smoothed along the other axis.
ACROSS = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
KERNEL = np.stack([ACROSS, ACROSS.T], axis=-1)[:, :, None, :]  # [3, 3, 1, 2]


def sobel(images: Float[Array, "B H W 3"]) -> Float[Array, "B H W 2"]:
    """Horizontal and vertical differences of the mean of the channels (Caron et al., 2018).

    Without the filter, a clustering would group images by their colours. The borders are padded
    with zeros, the mean grey of normalised images.
    """
    grey = jnp.mean(images, axis=-1, keepdims=True)
    return conv(grey, jnp.asarray(KERNEL, grey.dtype), stride=1)
