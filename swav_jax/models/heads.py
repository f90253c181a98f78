"""What follows the backbone: the projection head (an MLP) and the prototypes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from swav_jax.models.batch_norm import BatchNorm


def _linear(
    features: int, fan_in: int, dtype: DTypeLike, param_dtype: DTypeLike, name: str
) -> nn.Dense:
    """A linear layer with PyTorch's default initialisation: all uniform in +-1/sqrt(fan_in)."""

    def uniform(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nn.Dense(
        features,
        dtype=dtype,
        param_dtype=param_dtype,
        kernel_init=uniform,
        bias_init=uniform,
        name=name,
    )


class ProjectionHead(nn.Module):
    """Linear, batch norm and ReLU for each hidden layer, then Linear (Chen et al. 2020).

    Layers are named by their place in PyTorch's `nn.Sequential`: `projection_head_0` is the first
    Linear, `_1` its batch norm, `_3` the next Linear; without batch norm that is `_2`. Without a
    hidden layer the only Linear is `projection_head`.

    Attributes:
      hidden: width of the hidden layers; 0 for a head of one Linear layer.
      dim: width D of the embedding.
      layers: number of Linear layers; 2 in SwAV and MoCo-v2, 3 in SimCLR-v2.
      norm: whether hidden layers have batch norm; not in MoCo-v2 and PCL-v2.
      dtype: of activations and products.
      param_dtype: of parameters and running statistics.
      bn_groups: see `BatchNorm.groups`.
    """

    hidden: int
    dim: int
    layers: int = 2
    norm: bool = True
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    bn_groups: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "N F"], train: bool) -> Float[Array, "N D"]:
        """Projects features; the result is not normalised."""
        if not self.hidden:
            name = "projection_head"
            return _linear(self.dim, x.shape[-1], self.dtype, self.param_dtype, name)(x)
        modules = 3 if self.norm else 2  # of a hidden layer
        for layer in range(self.layers):
            last = layer == self.layers - 1
            x = _linear(
                self.dim if last else self.hidden,
                x.shape[-1],
                self.dtype,
                self.param_dtype,
                name=f"projection_head_{modules * layer}",
            )(x)
            if last:
                break
            if self.norm:
                norm = BatchNorm(
                    self.bn_groups,
                    dtype=self.dtype,
                    param_dtype=self.param_dtype,
                    name=f"projection_head_{modules * layer + 1}",
                )
                x = norm(x, not train)
            x = nn.relu(x)
        return x


def init_prototypes(
    key: Key[Array, ""], prototypes: int, dim: int, dtype: DTypeLike = jnp.float32
) -> Float[Array, "K D"]:
    """Rows uniform in +-1/sqrt(D), as a PyTorch linear layer without bias; not normalised."""
    bound = dim**-0.5
    return jax.random.uniform(key, (prototypes, dim), dtype, -bound, bound)
