"""Residual networks (He et al. 2016), strided in the 3x3 convolution, of several widths and stems.

Module names mirror PyTorch's: `layer1_0/conv1/kernel` is torchvision's `layer1.0.conv1.weight`.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from swav_jax.models.batch_norm import BatchNorm
from swav_jax.models.conv import Conv
from swav_jax.models.pool import max_pool
from swav_jax.ops.precision import at_least_float32


class _Block(nn.Module):
    """What both blocks share: their fields, and layers made from them.

    `features` is the inner width; the output has `features * expansion` channels.
    """

    features: int
    stride: int
    dtype: DTypeLike
    param_dtype: DTypeLike
    bn_groups: int

    def conv(self, name: str, features: int, size: int, stride: int = 1) -> Conv:
        return Conv(features, size, stride, self.dtype, self.param_dtype, name=name)

    def norm(self, name: str) -> BatchNorm:
        return BatchNorm(self.bn_groups, dtype=self.dtype, param_dtype=self.param_dtype, name=name)

    def shortcut(self, x: Array, features: int, train: bool) -> Array:
        """The identity, or a strided 1x1 convolution where the shape changes."""
        if self.stride == 1 and x.shape[-1] == features:
            return x
        x = self.conv("downsample_0", features, 1, self.stride)(x)
        return self.norm("downsample_1")(x, not train)


class BasicBlock(_Block):
    """Two 3x3 convolutions, the first strided."""

    expansion, convolutions = 1, 2

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"], train: bool) -> Float[Array, "B h w O"]:
        """Adds the residual to its shortcut."""
        y = self.conv("conv1", self.features, 3, self.stride)(x)
        y = nn.relu(self.norm("bn1")(y, not train))
        y = self.conv("conv2", self.features, 3)(y)
        y = self.norm("bn2")(y, not train)
        return nn.relu(y + self.shortcut(x, self.features, train))


class Bottleneck(_Block):
    """1x1 down, 3x3 strided, 1x1 up to four times the width."""

    expansion, convolutions = 4, 3

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"], train: bool) -> Float[Array, "B h w O"]:
        """Adds the residual to its shortcut."""
        y = self.conv("conv1", self.features, 1)(x)
        y = nn.relu(self.norm("bn1")(y, not train))
        y = self.conv("conv2", self.features, 3, self.stride)(y)
        y = nn.relu(self.norm("bn2")(y, not train))
        y = self.conv("conv3", self.features * self.expansion, 1)(y)
        y = self.norm("bn3")(y, not train)
        return nn.relu(y + self.shortcut(x, self.features * self.expansion, train))


# Side and stride of the first convolution, and whether max-pooling follows. "cifar" is for images
# of 32 pixels; "strided" takes a quarter of its work, for coarser or somewhat larger ones.
STEMS = {"imagenet": (7, 2, True), "cifar": (3, 1, False), "strided": (3, 2, False)}


class ResNet(nn.Module):
    """A ResNet without its classifier.

    Attributes:
      block: BasicBlock or Bottleneck.
      stage_sizes: blocks of each of the four stages.
      width: channels of the stem and inner width of the first stage; doubles with each stage.
      stem: of STEMS.
      dtype: of activations and products: bfloat16, float32 or float64.
      param_dtype: of parameters and running statistics.
      bn_groups: see `BatchNorm.groups`.
      remat: what the backward pass computes again, so that its activations need not be kept: one of
        REMATS.
    """

    block: type[BasicBlock] | type[Bottleneck]
    stage_sizes: tuple[int, ...]
    width: int
    stem: str = "imagenet"
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    bn_groups: int = 1
    remat: str = "none"

    @nn.compact
    def stages(self, x: Float[Array, "B S S 3"], train: bool) -> dict[str, Float[Array, "B h w C"]]:
        """Feature maps after each stage, "c2" to "c5".

        Their strides are 4 to 32 with the stem "imagenet", 1 to 8 with "cifar" and 2 to 16 with
        "strided".
        """
        size, stride, pooled = STEMS[self.stem]
        x = Conv(self.width, size, stride, self.dtype, self.param_dtype, name="conv1")(x)
        norm = BatchNorm(self.bn_groups, dtype=self.dtype, param_dtype=self.param_dtype, name="bn1")
        x = nn.relu(norm(x, not train))
        if pooled:
            x = max_pool(x)
        maps = {}
        for stage in range(len(self.stage_sizes)):

            def blocks(self: "ResNet", x: Array, stage: int = stage) -> Array:
                return self._blocks(x, stage, train)

            x = nn.remat(blocks)(self, x) if self.remat == "stage" else blocks(self, x)
            maps[f"c{stage + 2}"] = x
        return maps

    def _blocks(self, x: Float[Array, "B H W I"], stage: int, train: bool) -> Array:
        """The blocks of one stage."""
        block = self.block
        if self.remat == "block":
            block = nn.remat(block, static_argnums=(2,))  # `train`; the module counts too
        for i in range(self.stage_sizes[stage]):
            x = block(
                features=self.width * 2**stage,
                stride=2 if stage > 0 and i == 0 else 1,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                bn_groups=self.bn_groups,
                name=f"layer{stage + 1}_{i}",
            )(x, train)
        return x

    def __call__(self, x: Float[Array, "B S S 3"], train: bool) -> Float[Array, "B F"]:
        """Pooled features in at least float32; F = 8 * width * block.expansion."""
        last = self.stages(x, train)[f"c{len(self.stage_sizes) + 1}"]
        return last.mean((1, 2), dtype=at_least_float32(last.dtype))


REMATS = ("none", "stage", "block")

# The wide networks of the SwAV paper widen every stage and the stem.
ARCHS: dict[str, dict[str, Any]] = {
    "resnet10_tiny": {"block": BasicBlock, "stage_sizes": (1, 1, 1, 1), "width": 8},
    "resnet14": {"block": Bottleneck, "stage_sizes": (1, 1, 1, 1), "width": 64},
    "resnet18": {"block": BasicBlock, "stage_sizes": (2, 2, 2, 2), "width": 64},
    "resnet18_tiny": {"block": BasicBlock, "stage_sizes": (2, 2, 2, 2), "width": 8},
    "resnet18_thin": {"block": BasicBlock, "stage_sizes": (2, 2, 2, 2), "width": 16},
    "resnet34": {"block": BasicBlock, "stage_sizes": (3, 4, 6, 3), "width": 64},
    "resnet50": {"block": Bottleneck, "stage_sizes": (3, 4, 6, 3), "width": 64},
    "resnet50w2": {"block": Bottleneck, "stage_sizes": (3, 4, 6, 3), "width": 128},
    "resnet50w4": {"block": Bottleneck, "stage_sizes": (3, 4, 6, 3), "width": 256},
    "resnet50w5": {"block": Bottleneck, "stage_sizes": (3, 4, 6, 3), "width": 320},
    "resnet101": {"block": Bottleneck, "stage_sizes": (3, 4, 23, 3), "width": 64},
}


def backbone(
    arch: str,
    *,
    stem: str = "imagenet",
    width: int = 0,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    bn_groups: int = 1,
    remat: str = "none",
) -> ResNet:
    """Builds a network of `ARCHS`, of another width if `width` is not 0.

    Raises:
      ValueError: unknown `arch`, `stem` or `remat`.
    """
    if arch not in ARCHS:
        raise ValueError(f"unknown model.arch {arch!r}; known are {', '.join(ARCHS)}")
    if stem not in STEMS:
        raise ValueError(f"unknown model.stem {stem!r}; known are {', '.join(STEMS)}")
    if remat not in REMATS:
        raise ValueError(f"unknown train.remat {remat!r}; known are {', '.join(REMATS)}")
    settings = ARCHS[arch] | ({"width": width} if width else {})
    return ResNet(
        **settings,
        stem=stem,
        dtype=dtype,
        param_dtype=param_dtype,
        bn_groups=bn_groups,
        remat=remat,
    )
