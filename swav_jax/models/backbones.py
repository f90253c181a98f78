"""Backbones by name: what `config.model.arch` chooses from."""

from typing import Any

from swav_jax.models import alexnet_vgg, resnet
from swav_jax.models.alexnet_vgg import SobelNet
from swav_jax.models.resnet import STEMS, ResNet

__all__ = ["ARCHS", "STEMS", "Backbone", "backbone"]

Backbone = ResNet | SobelNet
ARCHS = resnet.ARCHS | alexnet_vgg.ARCHS


def backbone(arch: str, *, stem: str = "imagenet", **settings: Any) -> Backbone:
    """Builds a network of `ARCHS`.

    Args:
      arch: its name.
      stem: one of STEMS, for a ResNet; the other networks have their own.
      **settings: `dtype`, `param_dtype` and `bn_groups`, see `ResNet`.

    Raises:
      ValueError: unknown `arch` or `stem`.
    """
    if arch in alexnet_vgg.ARCHS:
        return SobelNet(**alexnet_vgg.ARCHS[arch], **settings)
    return resnet.backbone(arch, stem=stem, **settings)
