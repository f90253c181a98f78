"""Convolution without bias in NHWC, padded by half its kernel as ResNets are.

The values are those of `lax.conv_general_dilated`; how they are computed depends on the kernel:
1x1 is a matrix product, and for few channels the kernel's gradient takes another way on a CPU.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from swav_jax.ops.precision import at_least_float32

# Output pixels in one slice of the kernel gradient: a few MB, about what a core's caches hold.
_SLICE_PIXELS = 16384


def conv(
    x: Float[Array, "B H W I"], kernel: Float[Array, "k k I O"], stride: int
) -> Float[Array, "B h w O"]:
    """Cross-correlates `x` with an odd square kernel; h = ceil(H / stride)."""
    size, _, channels, _ = kernel.shape
    if size == 1:
        return lax.dot_general(x[:, ::stride, ::stride], kernel[0, 0], (((3,), (0,)), ((), ())))
    if size == 3 and 16 <= channels <= 64:
        return _few_channels(x, kernel, stride)
    return plain(x, kernel, stride)


def plain(x: Array, kernel: Array, stride: int) -> Array:
    """The same as XLA's own convolution, also in its gradients."""
    half = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((half, half), (half, half)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _few_channels(x: Array, kernel: Array, stride: int) -> Array:
    return plain(x, kernel, stride)


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return plain(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    (dx,) = jax.linear_transpose(lambda x: plain(x, kernel, stride), x)(dy)

    def by_convolution(x: Array, dy: Array) -> Array:
        return jax.linear_transpose(lambda kernel: plain(x, kernel, stride), kernel)(dy)[0]

    def by_slices(x: Array, dy: Array) -> Array:
        return _kernel_gradient(x, dy, kernel.shape[0], stride).astype(kernel.dtype)

    # Decided when lowered, not traced: a TPU program may be compiled on a host without one.
    dkernel = lax.platform_dependent(x, dy, cpu=by_slices, default=by_convolution)
    return dx, dkernel


_few_channels.defvjp(_forward, _backward)


def _kernel_gradient(x: Array, dy: Array, size: int, stride: int) -> Array:
    """Sum over pixels p of x[stride * p + offset] dy[p]^T, a matrix product for each offset.

    XLA:CPU would make the batch the channel axis of a convolution and so transpose the images,
    recomputing in that slow order what led to them (batch norm, ReLU). A loop over slices of the
    batch keeps the order, and makes XLA keep the images too.
    """
    batch, height, width, _ = dy.shape
    half = size // 2
    slices = max(1, batch * height * width // _SLICE_PIXELS)
    slices = next(n for n in range(slices, 0, -1) if batch % n == 0)

    def gradient(x: Array, dy: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
        rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
        return jnp.stack(
            [
                lax.dot_general(
                    x[:, i : i + rows : stride, j : j + columns : stride],
                    dy,
                    (((0, 1, 2), (0, 1, 2)), ((), ())),
                    preferred_element_type=at_least_float32(dy.dtype),
                )
                for i in range(size)
                for j in range(size)
            ]
        )

    # The slice is the minor part of the batch axis: the major one may lie over devices.
    x = x.reshape(batch // slices, slices, *x.shape[1:])
    dy = dy.reshape(batch // slices, slices, *dy.shape[1:])

    def add(n: Array, total: Array) -> Array:
        return total + gradient(*(lax.dynamic_index_in_dim(a, n, 1, False) for a in (x, dy)))

    shape = (size * size, x.shape[-1], dy.shape[-1])
    total = lax.fori_loop(0, slices, add, jnp.zeros(shape, at_least_float32(dy.dtype)))
    return total.reshape(size, size, *shape[1:])


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
