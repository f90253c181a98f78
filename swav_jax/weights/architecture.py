"""Which network tensors are of: what their names and shapes say of `config.model`."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from swav_jax.models.alexnet_vgg import POOL
from swav_jax.models.backbones import ARCHS, STEMS, backbone
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.models.resnet import BasicBlock, Bottleneck
from swav_jax.weights.torch_names import to_torch

Tensors = dict[str, np.ndarray]  # by their published SwAV names, in PyTorch's layout

PIXELS = 224  # of the images that AlexNet and VGG16 were published for


def backbone_settings(tensors: Tensors, stem: str) -> dict[str, Any]:
    """Architecture, stem and width.

    Args:
      tensors: of a backbone.
      stem: that is meant where the first convolution fits several.

    Raises:
      ValueError: it is of none here.
    """
    if any(name.startswith("features.") for name in tensors):
        return {"arch": _sobel_net(tensors), "stem": "imagenet", "width": 0}
    if "conv1.weight" not in tensors:
        raise ValueError("conv1.weight, a ResNet's first convolution, is missing")
    if (first := tensors["conv1.weight"]).ndim != 4:
        raise ValueError(f"conv1.weight has the shape {first.shape}, which is no convolution's")
    width, _, side, _ = first.shape
    stems = [name for name, (size, _, _) in STEMS.items() if size == side]
    if not stems:
        raise ValueError(f"conv1.weight is a {side}x{side} convolution, which no stem here has")
    bottleneck = "layer1.0.conv3.weight" in tensors
    blocks = [len(_numbers(rf"layer{stage}\.(\d+)\..+", tensors)) for stage in range(1, 5)]
    inner, grouped = (tensors.get(f"layer1.0.conv{i}.weight", first) for i in (1, 2))
    if bottleneck and len(inner) != width:
        resnext = grouped.shape[1] < len(inner)
        kind = "a ResNeXt" if resnext else f"wide_resnet50_{len(inner) // width} or one like it"
        raise ValueError(
            f"it holds {kind}: layer1.0.conv1.weight has {len(inner)} channels behind {width} of "
            "conv1. The wide networks here, resnet50w2 and so on, widen every layer"
        )
    block = Bottleneck if bottleneck else BasicBlock
    alike = {
        name: settings
        for name, settings in ARCHS.items()
        if settings.get("block") is block
        and [n for n in settings["stage_sizes"] if n] == [n for n in blocks if n]
    }
    if not alike:
        raise ValueError(
            f"it holds a ResNet of {block.__name__} blocks {', '.join(map(str, blocks))}, which is "
            f"not here; known are {', '.join(ARCHS)}"
        )
    same = [name for name, settings in alike.items() if settings["width"] == width]
    return {
        "arch": same[0] if same else next(iter(alike)),
        "stem": stem if stem in stems else stems[0],
        "width": 0 if same else width,
    }


def _sobel_net(tensors: Tensors) -> str:
    convolutions = _numbers(r"features\.(\d+)\.weight", tensors, ndim=4)
    for arch, settings in ARCHS.items():
        layers = [layer for layer in settings.get("layers", ()) if layer is not POOL]
        if len(layers) == len(convolutions):
            return arch
    raise ValueError(f"it holds a network of {len(convolutions)} convolutions, which is not here")


def _numbers(pattern: str, tensors: Tensors, ndim: int = 0) -> list[int]:
    """The numbers in names that match, in order; of tensors with `ndim` axes if it is not 0."""
    matches = [
        re.fullmatch(pattern, name)
        for name, value in tensors.items()
        if not ndim or value.ndim == ndim
    ]
    return sorted({int(match[1]) for match in matches if match})


def _linear(tensors: Tensors) -> list[int]:
    """Places of the linear layers of a head that is a sequence."""
    return _numbers(r"projection_head\.(\d+)\.weight", tensors, ndim=2)


def foreign_head(tensors: Tensors) -> str:
    """What of a head no head here has; "" if it may be one of them."""
    end = max(_numbers(r"projection_head\.(\d+)\..+", tensors), default=0)
    if f"projection_head.{end}.running_mean" in tensors:
        return "a head that ends in a batch norm, which none here does"
    return ""


def usual_head(tensors: Tensors) -> Tensors:
    """The same head with the usual names, and zeros for biases that it does without."""
    linear = _linear(tensors)
    if len(linear) == 1:
        tensors = {
            name.replace(f"projection_head.{linear[0]}.", "projection_head."): value
            for name, value in tensors.items()
        }
    biases = {
        name.replace(".weight", ".bias"): np.zeros(len(value), value.dtype)
        for name, value in tensors.items()
        if value.ndim == 2
    }
    return biases | tensors


def head_settings(tensors: Tensors) -> dict[str, Any]:
    """Layers and widths of a head that `usual_head` gives."""
    weights = {name: value for name, value in tensors.items() if value.ndim == 2}
    if not weights:
        raise ValueError("its projection head has no linear layer")
    if "projection_head.weight" in weights:
        return {"head_hidden": 0, "dim": len(weights["projection_head.weight"])}
    linear = _linear(tensors)
    first, last = (weights[f"projection_head.{n}.weight"] for n in (linear[0], linear[-1]))
    return {
        "head_hidden": len(first),
        "head_layers": len(linear),
        "head_norm": any(".running_" in name for name in tensors),
        "dim": len(last),
    }


def shapes(model: Mapping[str, Any], with_head: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes in PyTorch of a network with these settings."""
    head = ProjectionHead(
        model.get("head_hidden", 0),
        model.get("dim", 1),
        model.get("head_layers", 2),
        model.get("head_norm", True),
    )
    network = backbone(model["arch"], stem=model["stem"], width=model["width"])
    crops = [jax.ShapeDtypeStruct((1, 1, PIXELS, PIXELS, 3), jnp.float32)]
    # Nothing is computed: that would start the devices, before processes have joined each other.
    key = jax.eval_shape(jax.random.key, 0)
    init = partial(Encoder(network, head).init, train=False)
    variables = jax.eval_shape(init, key, crops)
    zero = np.zeros((), np.float32)
    empty = jax.tree.map(lambda leaf: np.broadcast_to(zero, leaf.shape), variables)
    names = to_torch(empty)
    return {
        name: value.shape
        for name, value in names.items()
        if with_head or not name.startswith("projection_head")
    }
