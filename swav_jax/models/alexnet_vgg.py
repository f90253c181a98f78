"""AlexNet and VGG16 with batch norm behind a Sobel filter, the networks of DeepCluster.

Krizhevsky et al., 2012, and Simonyan and Zisserman, 2015, as Caron et al., 2018, use them: batch
norm after each convolution, and the classifier's two linear layers of 4096 units as the end of the
backbone. There is no dropout. Layers are numbered as in PyTorch's `nn.Sequential`:
`features_0/kernel` is a convolution, `features_1` its batch norm.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from swav_jax.models.batch_norm import BatchNorm
from swav_jax.models.sobel import sobel
from swav_jax.ops.precision import at_least_float32

Convolution = tuple[int, int, int, int]  # channels, kernel, stride, padding
POOL = None


class SobelNet(nn.Module):
    """Sobel filter, convolutions, two linear layers.

    Attributes:
      layers: convolutions with batch norm and ReLU, or poolings, in turn.
      pool: size of a max-pooling; its stride is 2.
      units: width F of both linear layers.
      dtype: of activations and products.
      param_dtype: of parameters and running statistics.
      bn_groups: see `BatchNorm.groups`.
    """

    layers: tuple[Convolution | None, ...]
    pool: int
    units: int = 4096
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    bn_groups: int = 1

    def __call__(self, x: Float[Array, "B S S 3"], train: bool) -> Float[Array, "B F"]:
        """Features before the last ReLU, in at least float32; all images of one size S.

        Raises:
          ValueError: the images are so small that a pooling has nothing to pool.
        """
        _, features = self._layers(x, train)
        return features.astype(at_least_float32(features.dtype))

    def stages(self, x: Float[Array, "B S S 3"], train: bool) -> dict[str, Float[Array, "B h w C"]]:
        """Feature maps after each pooling, of images of any size.

        They are named by their stride as a ResNet's are: "c5" has 32; AlexNet's begin with "c3",
        VGG16's with "c1".
        """
        maps, _ = self._layers(x, train, only_maps=True)
        return maps

    @nn.compact
    def _layers(
        self, x: Float[Array, "B S S 3"], train: bool, only_maps: bool = False
    ) -> tuple[dict[str, Float[Array, "B h w C"]], Array]:
        """The maps of `stages`, and what comes out of the last layer."""
        size, number, stride = x.shape[1], 0, 1
        maps = {}
        x = sobel(x.astype(at_least_float32(x.dtype)))
        for layer in self.layers:
            if layer is POOL:
                x = nn.max_pool(x, (self.pool, self.pool), strides=(2, 2))
                number, stride = number + 1, stride * 2
                maps[f"c{stride.bit_length() - 1}"] = x
            else:
                x = self._convolution(x, layer, number, train)
                number, stride = number + 3, stride * layer[2]  # the convolution, its norm and ReLU
            if 0 in x.shape:
                raise ValueError(f"images of {size} pixels are too small for this network: try 224")
        if not only_maps:
            x = nn.relu(self._linear(x.reshape(len(x), -1), "classifier_1"))
            x = self._linear(x, "classifier_4")
        return maps, x

    def _convolution(self, x: Array, layer: Convolution, number: int, train: bool) -> Array:
        channels, kernel, stride, padding = layer
        x = nn.Conv(
            channels,
            (kernel, kernel),
            stride,
            padding,
            use_bias=False,  # the batch norm has one
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            name=f"features_{number}",
        )(x)
        norm = BatchNorm(
            self.bn_groups,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=f"features_{number + 1}",
        )
        return nn.relu(norm(x, not train))

    def _linear(self, x: Array, name: str) -> Array:
        return nn.Dense(
            self.units,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=nn.initializers.normal(0.01),
            name=name,
        )(x)


def _vgg(*stages: tuple[int, int]) -> tuple[Convolution | None, ...]:
    """Stages of (number, channels) 3x3 convolutions, each followed by a pooling."""
    return tuple(
        layer for count, channels in stages for layer in [(channels, 3, 1, 1)] * count + [POOL]
    )


ARCHS: dict[str, dict[str, Any]] = {
    "alexnet_sobel": {
        "layers": (
            (96, 11, 4, 2),
            POOL,
            (256, 5, 1, 2),
            POOL,
            (384, 3, 1, 1),
            (384, 3, 1, 1),
            (256, 3, 1, 1),
            POOL,
        ),
        "pool": 3,
    },
    "vgg16_sobel": {
        "layers": _vgg((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)),
        "pool": 2,
    },
}
