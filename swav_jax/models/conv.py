"""Convolution without bias in NHWC, padded by half its kernel as ResNets are."""

import itertools

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from swav_jax.ops.materialise import materialised


def conv(
    x: Float[Array, "B H W I"], kernel: Float[Array, "k k I O"], stride: int
) -> Float[Array, "B h w O"]:
    """Cross-correlates `x` with an odd square kernel; h = ceil(H / stride).

    A 1x1 convolution is a matrix product and is given to XLA as one, but for GPUs: on a CPU that is
    faster. So is one on a map that is smaller than the kernel, where XLA:CPU has only a naive loop,
    ten times slower.
    """
    x = materialised(x)
    size = kernel.shape[0]
    if size == 1 or -(-x.shape[1] // stride) < size:
        columns = kernel.reshape(-1, kernel.shape[-1])
        return materialised(product(patches(x, size, stride), columns))
    return materialised(plain(x, kernel, stride))


def product(x: Float[Array, "B h w I"], columns: Float[Array, "I O"]) -> Float[Array, "B h w O"]:
    """The matrix product of every pixel's channels with `columns`."""

    def of_rows(x: Array, columns: Array) -> Array:
        # The gradient of `columns` is then a product of two matrices as they are. That of the other
        # form transposes one of them first.
        rows = materialised(x.reshape(-1, x.shape[-1]))
        return (rows @ columns).reshape(*x.shape[:-1], columns.shape[1])

    def of_pixels(x: Array, columns: Array) -> Array:
        return lax.dot_general(x, columns, (((3,), (0,)), ((), ())))

    def convolved(x: Array, columns: Array) -> Array:
        # For XLA:GPU's products pixels would be rows in one place and columns in the next.
        return plain(x, columns[None, None], 1)

    return lax.platform_dependent(x, columns, cpu=of_rows, tpu=of_pixels, default=convolved)


def patches(x: Float[Array, "B H W I"], size: int, stride: int) -> Float[Array, "B h w kkI"]:
    """The patch under the kernel at each of its places, in the order of the kernel's weights."""
    half, (height, width) = size // 2, x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    shifts = itertools.product(range(size), range(size))
    return jnp.concatenate(
        [padded[:, i : i + height : stride, j : j + width : stride] for i, j in shifts], axis=-1
    )


def plain(
    x: Float[Array, "B H W I"], kernel: Float[Array, "k k I O"], stride: int
) -> Float[Array, "B h w O"]:
    """The same by XLA's convolution, for any kernel."""
    half = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((half, half), (half, half)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class Conv(nn.Module):
    """Convolution with He initialisation over the fan-out (He et al. 2015).

    Attributes:
      features: output channels O.
      size: side of the kernel, odd.
      stride: in both directions.
      dtype: of the computation and the output.
      param_dtype: of the kernel.
    """

    features: int
    size: int
    stride: int = 1
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B h w O"]:
        """Convolves `x` in the compute dtype."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        kernel = self.param("kernel", init, shape, self.param_dtype)
        return conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
