"""Backbones by name: what `config.model.arch` chooses from."""

from typing import Any

from swav_jax.models import alexnet_vgg, resnet
from swav_jax.models.alexnet_vgg import SobelNet
from swav_jax.models.resnet import REMATS, STEMS, ResNet

__all__ = ["ARCHS", "REMATS", "STEMS", "Backbone", "backbone"]

Backbone = ResNet | SobelNet
ARCHS = resnet.ARCHS | alexnet_vgg.ARCHS


def backbone(
    arch: str, *, stem: str = "imagenet", width: int = 0, remat: str = "none", **settings: Any
) -> Backbone:
    """Builds a network of `ARCHS`.

    Args:
      arch: its name.
      stem: one of STEMS, for a ResNet; the other networks have their own.
      width: of a ResNet's stem, see `ResNet`; 0 for that of `arch`.
      remat: what a ResNet computes again in the backward pass, see `ResNet`.
      **settings: `dtype`, `param_dtype` and `bn_groups`, see `ResNet`.

    Raises:
      ValueError: unknown `arch` or `stem`, or a `width` or `remat` for a network that has none.
    """
    if arch in alexnet_vgg.ARCHS:
        if width:
            raise ValueError(f"{arch} has one width: model.width must be 0")
        if remat != "none":
            raise ValueError(f"{arch} computes nothing again: train.remat must be none")
        return SobelNet(**alexnet_vgg.ARCHS[arch], **settings)
    return resnet.backbone(arch, stem=stem, width=width, remat=remat, **settings)
