"""Crops cut on the device: resizing is two matrix products, antialiased as Pillow's."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt8

# Many means of two grey levels lie halfway, and float32 errs differently with the number of images
# and devices: a little more than a half rounds all of these up.
HALF = 0.5 + 2**-10


def multi_crop(
    images: UInt8[Array, "B H W 3"],
    boxes: Int[Array, "B V 4"],
    counts_and_sizes: Sequence[tuple[int, int]],
) -> tuple[UInt8[Array, "B _n _S _S 3"], ...]:
    """Cuts the boxes of each image, some for each of several resolutions.

    Args:
      images: of one size, or in the top left corner of something that is.
      boxes: top, left, height, width in pixels of each crop.
      counts_and_sizes: how many of the V crops have which S, in the order of `boxes`.
    """
    first, crops = 0, []
    for count, size in counts_and_sizes:
        crops.append(cut(images, boxes[:, first : first + count], size))
        first += count
    return tuple(crops)


def cut(
    images: UInt8[Array, "B H W 3"], boxes: Int[Array, "B n 4"], size: int
) -> UInt8[Array, "B n S S 3"]:
    """Crops boxes and resizes each to S pixels, as `data.crops.cut` does on the host."""
    levels = images.astype(jnp.float32)
    _, height, width, _ = images.shape
    top, left, tall, wide = jnp.moveaxis(boxes, -1, 0)
    down = _of_each(top, tall, size, height)
    across = _of_each(left, wide, size, width)
    exact = lax.Precision.HIGHEST  # or an accelerator rounds grey levels to a few bits
    crops = jnp.einsum("bnsh,bhwc->bnswc", down, levels, precision=exact)
    crops = jnp.einsum("bntw,bnswc->bnstc", across, crops, precision=exact)
    return jnp.floor(crops + HALF).astype(jnp.uint8)  # means of grey levels, so within 0..255


def weights(
    begin: Int[Array, ""], extent: Int[Array, ""], size: int, pixels: int
) -> Float[Array, "S P"]:
    """How much of each pixel of a row is in each of the S pixels that a part of it is resized to.

    A triangle around the place of the new pixel, as wide as two pixels of the coarser of both rows;
    what lies outside of the part has no weight.

    Args:
      begin: first pixel of the part.
      extent: pixels of the part.
      size: S.
      pixels: P, of the whole row.
    """
    begin, extent = begin.astype(jnp.float32), extent.astype(jnp.float32)
    scale = extent / size
    centre = begin + (jnp.arange(size, dtype=jnp.float32) + 0.5)[:, None] * scale  # [S, 1]
    pixel = (jnp.arange(pixels, dtype=jnp.float32) + 0.5)[None]  # [1, P]
    triangles = jnp.maximum(1 - jnp.abs(pixel - centre) / jnp.maximum(scale, 1), 0)
    triangles = jnp.where((pixel > begin) & (pixel < begin + extent), triangles, 0)
    return triangles / triangles.sum(axis=-1, keepdims=True)


_of_each = jax.vmap(jax.vmap(weights, (0, 0, None, None)), (0, 0, None, None))
