"""Batch normalisation as PyTorch keeps it, over the batch or over groups of it.

y = (x - E[x]) / sqrt(Var[x] + epsilon) * scale + bias for each channel (Ioffe & Szegedy 2015).
Under `jax.jit` with a sharded batch axis the statistics are those of the global batch.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from swav_jax.ops.materialise import materialised
from swav_jax.ops.precision import at_least_float32


class BatchNorm(nn.Module):
    """Normalises the last axis; the first is the batch axis.

    The running variance is the unbiased one and `momentum` weighs the old value, so 0.9 here is
    PyTorch's 0.1. Statistics and normalisation are computed in at least float32.

    Attributes:
      groups: number of equal, consecutive parts of the batch that are normalised separately, as
        groups of devices are in SyncBatchNorm; the running statistics take the mean over the
        groups.
      momentum: share of the old running statistics that an update keeps.
      epsilon: added to the variance.
      dtype: of the output.
      param_dtype: of scale, bias and the running statistics.
    """

    groups: int = 1
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *spatial C"], use_running_average: bool
    ) -> Float[Array, "B *spatial C"]:
        """Normalises `x`, with its own statistics or with the running ones.

        Raises:
          ValueError: the batch does not divide into `groups`.
        """
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, channels, self.param_dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, self.param_dtype)
        var = self.variable("batch_stats", "var", jnp.ones, channels, self.param_dtype)
        dtype = at_least_float32(x.dtype)
        scale, bias = scale.astype(dtype), bias.astype(dtype)
        if use_running_average:
            factor = scale * lax.rsqrt(var.value.astype(dtype) + self.epsilon)
            centred = x.astype(dtype) - _along_last(mean.value.astype(dtype), x.ndim)
            y = centred * _along_last(factor, x.ndim) + _along_last(bias, x.ndim)
            return y.astype(self.dtype)

        if x.shape[0] % self.groups:
            raise ValueError(
                f"a batch of {x.shape[0]} does not divide into {self.groups} bn_groups"
            )
        y, batch_mean, batch_var = _normalise(x, scale, bias, self.groups, self.epsilon)
        if not self.is_initializing():
            n = x.size // (self.groups * channels[0])
            for running, batch in (
                (mean, batch_mean.mean(0)),
                (var, batch_var.mean(0) * (n / max(n - 1, 1))),
            ):
                old = running.value.astype(dtype)
                new = self.momentum * old + (1 - self.momentum) * batch
                running.value = new.astype(self.param_dtype)
        return y.astype(self.dtype)


# The gradient is written out because it takes two sums where the derived one takes more.
@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalise(
    x: Float[Array, "B *spatial C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    groups: int,
    epsilon: float,
) -> tuple[Float[Array, "B *spatial C"], Float[Array, "G C"], Float[Array, "G C"]]:
    """Normalised `x` with the mean and the biased variance of each group.

    The latter two are for the running statistics: no gradient flows back from them.
    """
    return _forward(x, scale, bias, groups, epsilon)[0]


@jax.named_scope("batch_norm")
def _forward(
    x: Array, scale: Array, bias: Array, groups: int, epsilon: float
) -> tuple[tuple, tuple]:
    values = x.astype(scale.dtype)
    mean, var = _moments(values, groups, rounded=jnp.finfo(x.dtype).bits < 32)
    inverse = lax.rsqrt(var + epsilon)
    centred = values - _per_group(mean, x)
    y = centred * _per_group(inverse * scale[None], x) + _along_last(bias, x.ndim)
    return (y, mean, var), (x, mean, inverse, scale)


@jax.named_scope("batch_norm")
def _backward(
    groups: int, epsilon: float, saved: tuple, cotangents: tuple
) -> tuple[Array, Array, Array]:
    x, mean, inverse, scale = saved
    dy = cotangents[0]
    n = x.size // (groups * x.shape[-1])
    normal = (x.astype(scale.dtype) - _per_group(mean, x)) * _per_group(inverse, x)
    dbias, dscale = _sums(dy, groups), _sums(dy * normal, groups)
    rest = dy - _per_group(dbias / n, x) - normal * _per_group(dscale / n, x)
    dx = rest * _per_group(inverse * scale[None], x)
    return dx.astype(x.dtype), dscale.sum(0), dbias.sum(0)


_normalise.defvjp(_forward, _backward)


def _moments(
    x: Float[Array, "B *spatial C"], groups: int, rounded: bool
) -> tuple[Float[Array, "G C"], Float[Array, "G C"]]:
    """Mean and biased variance of each group and channel.

    Values that were rounded to bfloat16 are read once, where the convolution makes them, and over
    several devices both sums are one message. E[x^2] - E[x]^2 loses digits if the mean is large,
    but fewer than the rounding did: values near the mean are at least 2^-8 of it apart. Float32
    takes the mean first.
    """
    n = x.size // (groups * x.shape[-1])
    mean = _sums(x, groups) / n
    if rounded:
        return mean, jnp.maximum(_sums(jnp.square(x), groups) / n - jnp.square(mean), 0)
    return mean, _sums(jnp.square(x - _per_group(mean, x)), groups) / n


def _sums(x: Float[Array, "B *spatial C"], groups: int) -> Float[Array, "G C"]:
    """Sum of each group and channel.

    Only here are groups an axis of their own. Arithmetic on such an axis is another form of `x` to
    a TPU's compiler, which then takes one of two sums only where a convolution makes `x`.
    """
    x = materialised(x).reshape(groups, x.shape[0] // groups, *x.shape[1:])
    return x.sum(tuple(range(1, x.ndim - 1)))


def _per_group(of_groups: Float[Array, "G C"], x: Float[Array, "B *spatial C"]) -> Array:
    """[G, C] to [B, 1, ..., C], or to [1, 1, ..., C] for one group."""
    if len(of_groups) > 1:
        of_groups = jnp.repeat(of_groups, x.shape[0] // len(of_groups), axis=0)
    return jnp.expand_dims(of_groups, tuple(range(1, x.ndim - 1)))


def _along_last(x: Float[Array, " C"], ndim: int) -> Array:
    """[C] to [1, ..., C]."""
    return jnp.expand_dims(x, tuple(range(ndim - 1)))
