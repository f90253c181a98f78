"""Batch normalisation as PyTorch keeps it, over the batch or over groups of it.

y = (x - E[x]) / sqrt(Var[x] + epsilon) * scale + bias for each channel (Ioffe & Szegedy 2015).
Under `jax.jit` with a sharded batch axis the statistics are those of the global batch.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from swav_jax.ops.precision import at_least_float32


class BatchNorm(nn.Module):
    """Normalises the last axis; the first is the batch axis.

    The running variance is the unbiased one and `momentum` weighs the old value, so 0.9 here is
    PyTorch's 0.1. Statistics and normalisation are computed in at least float32.

    Attributes:
        groups: number of equal, consecutive parts of the batch which are normalised apart from
            each other, as groups of devices do in SyncBatchNorm; the running statistics take the
            mean over the groups.
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
        groups = 1 if use_running_average else self.groups
        if x.shape[0] % groups:
            raise ValueError(f"a batch of {x.shape[0]} does not divide into {groups} bn_groups")

        grouped = x.reshape(groups, x.shape[0] // groups, *x.shape[1:]).astype(dtype)
        if use_running_average:
            batch_mean = mean.value[None].astype(dtype)
            batch_var = var.value[None].astype(dtype)
        else:
            axes = tuple(range(1, grouped.ndim - 1))
            batch_mean = grouped.mean(axes)
            batch_var = jnp.square(grouped - jnp.expand_dims(batch_mean, axes)).mean(axes)
            if not self.is_initializing():
                n = grouped.size // (groups * channels[0])
                for running, batch in (
                    (mean, batch_mean.mean(0)),
                    (var, batch_var.mean(0) * (n / max(n - 1, 1))),
                ):
                    old = running.value.astype(dtype)
                    new = self.momentum * old + (1 - self.momentum) * batch
                    running.value = new.astype(self.param_dtype)

        factor = lax.rsqrt(batch_var + self.epsilon) * scale[None].astype(dtype)
        shift = bias[None].astype(dtype) - batch_mean * factor
        per_group = (groups, *(1,) * (grouped.ndim - 2), *channels)
        y = grouped * factor.reshape(per_group) + shift.reshape(per_group)
        return y.reshape(x.shape).astype(self.dtype)
