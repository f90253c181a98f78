"""A trained network in a file that another library wrote: which it is, and its variables."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from swav_jax.config import INIT_PARTS
from swav_jax.models.alexnet_vgg import POOL
from swav_jax.models.backbones import ARCHS, STEMS, backbone
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.models.resnet import BasicBlock, Bottleneck
from swav_jax.weights.formats import HEAD, Format, foreign, recognise
from swav_jax.weights.torch_io import WeightsError, read_metadata, read_tensors
from swav_jax.weights.torch_names import from_torch, to_torch

Tensors = dict[str, np.ndarray]  # by their published SwAV names, in PyTorch's layout
PIXELS = 224  # of the images that AlexNet and VGG16 were published for


@dataclass(frozen=True)
class Weights:
    """The trained parts of a network that a file holds.

    Attributes:
      format: of the file.
      parts: those of INIT_PARTS that were taken.
      model: the settings of `config.model` that follow from names and shapes.
      leaves: float32 variables by their name in a training state, such as
        `params/backbone/conv1/kernel`.
      report: what was taken, what is missing, and what was not used and why; several lines.
    """

    format: Format
    parts: tuple[str, ...]
    model: dict[str, Any]
    leaves: dict[str, np.ndarray]
    report: str


def read_weights(path: str | Path, parts: Collection[str] = INIT_PARTS, stem: str = "") -> Weights:
    """Reads a file of another library; `formats` says of which.

    Args:
      path: as `read_tensors` takes it.
      parts: those of INIT_PARTS to take, where the file has them.
      stem: of the network, where its first convolution fits several of STEMS; "" for what the
        file says, else "cifar".

    Raises:
      FileNotFoundError: there is no such file.
      WeightsError: it cannot be read, or is of a network that is not here, or a tensor is missing
        or has another shape than the others say.
    """
    tensors = read_tensors(path)
    try:
        return network_in(tensors, str(path), parts, stem or read_metadata(path).get("stem", ""))
    except ValueError as problem:
        raise WeightsError(f"{path}: {problem}") from None


def network_in(
    tensors: Mapping[str, np.ndarray],
    source: str,
    parts: Collection[str] = INIT_PARTS,
    stem: str = "",
) -> Weights:
    """The network that tensors are of, by their names and shapes.

    Args:
      tensors: as `read_tensors` gives them.
      source: where they come from, for the report.
      parts: as of `read_weights`.
      stem: of the network, where its first convolution fits several; "" for the first of them.

    Raises:
      ValueError: they are of no network here, or not all of one.
    """
    if kind := foreign(tensors):
        raise ValueError(f"it holds {kind}, which is not here; known are {', '.join(ARCHS)}")
    recognised = recognise(tensors)
    found = _by_part(recognised.tensors)
    if not found["backbone"]:
        raise ValueError(_nothing(tensors, recognised.unused))
    unused = dict(recognised.unused)

    def leave(part: str, why: str) -> None:
        prefix = "key_encoder." if part == "key_encoder" else ""
        unused.update({recognised.names[prefix + name]: why for name in found.pop(part)})

    for part in [part for part in found if part not in {*parts, "backbone"}]:
        leave(part, "init_parts leaves it out")
    model = _backbone_settings(found["backbone"], stem)
    if "head" in found:
        if why := _foreign_head(found["head"]):
            leave("head", why)
        else:
            found["head"] = _usual_head(found["head"])
            model |= _head_settings(found["head"])
    expected = _shapes(model, with_head="head" in found)
    trained = found["backbone"] | found.get("head", {})
    _check(trained, expected, recognised.names)
    variables = from_torch(trained)
    if "prototypes" in found:
        sets = _without_weight_norm(found["prototypes"])
        if why := _useless(sets, model.get("dim")):
            leave("prototypes", why)
        else:
            model |= {"prototypes": len(sets[0]), "prototype_heads": len(sets)}
            variables["params"]["prototypes"] = {f"prototypes{h}": c for h, c in enumerate(sets)}
    if "key_encoder" in found:
        slow = found["key_encoder"]
        if "head" not in found:
            slow = {name: value for name, value in slow.items() if not name.startswith(HEAD)}
        slow = _usual_head(slow)
        _check(slow, expected, recognised.names, "key_encoder.")
        key = from_torch(slow)
        variables["extra"] = {"key_encoder": key["params"]}
        variables["batch_stats"]["key_encoder"] = key["batch_stats"]
    return Weights(
        format=recognised.format,
        parts=tuple(found),
        model=model,
        leaves={"/".join(place): value for place, value in flatten_dict(variables).items()},
        report=_report(source, recognised.format, model, found, unused),
    )


# ---- which tensors are whose ---------------------------------------------------------------------


def _by_part(tensors: Tensors) -> dict[str, Tensors]:
    """The tensors of each part that the file has; a backbone without any if it has none."""
    parts: dict[str, Tensors] = defaultdict(dict, backbone={})
    for name, value in tensors.items():
        module, _, rest = name.partition(".")
        if value.dtype.kind != "f":
            raise ValueError(f"{name} holds {value.dtype} numbers: quantised weights are not read")
        if not np.isfinite(value).all():
            raise ValueError(f"{name} holds numbers that are not finite")
        if module == "key_encoder":
            parts[module][rest] = value
        else:
            part = {"projection_head": "head", "prototypes": "prototypes"}.get(module, "backbone")
            parts[part][name] = value
    return dict(parts)


def _nothing(tensors: Mapping[str, np.ndarray], unused: Mapping[str, str]) -> str:
    """Why a file has no backbone."""
    if not tensors:
        return "it holds no tensors"
    names = ", ".join(list(tensors)[:3])
    reasons = set(unused.values())
    why = f": all are {reasons.pop()}" if len(reasons) == 1 else ""
    return f"none of its {len(tensors)} tensors is a backbone's{why} ({names}, ...)"


# ---- which network that is -----------------------------------------------------------------------


def _backbone_settings(tensors: Tensors, stem: str) -> dict[str, Any]:
    """Architecture, stem and width, from names and shapes."""
    if any(name.startswith("features.") for name in tensors):
        return {"arch": _sobel_net(tensors), "stem": "imagenet", "width": 0}
    if "conv1.weight" not in tensors:
        raise ValueError("conv1.weight, a ResNet's first convolution, is missing")
    width, _, side, _ = tensors["conv1.weight"].shape
    stems = [name for name, (size, _, _) in STEMS.items() if size == side]
    if not stems:
        raise ValueError(f"conv1.weight is a {side}x{side} convolution, which no stem here has")
    bottleneck = "layer1.0.conv3.weight" in tensors
    blocks = [len(_numbers(rf"layer{stage}\.(\d+)\..+", tensors)) for stage in range(1, 5)]
    inner = tensors.get("layer1.0.conv1.weight")
    if bottleneck and inner is not None and len(inner) != width:
        grouped = tensors["layer1.0.conv2.weight"].shape[1] < len(inner)
        kind = "a ResNeXt" if grouped else f"wide_resnet50_{len(inner) // width} or one like it"
        raise ValueError(
            f"it holds {kind}: layer1.0.conv1.weight has {len(inner)} channels behind {width} of "
            f"conv1. The wide networks here, resnet50w2 and so on, widen every layer"
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


def _foreign_head(tensors: Tensors) -> str:
    """What of a head no head here has; "" if it may be one of them."""
    last = max(_linear(tensors), default=-1)
    if any(number > last for number in _numbers(r"projection_head\.(\d+)\..+", tensors)):
        return "a head that ends in a batch norm, which none here does"
    return ""


def _usual_head(tensors: Tensors) -> Tensors:
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


def _head_settings(tensors: Tensors) -> dict[str, Any]:
    """Layers and widths of a head that `_usual_head` gives."""
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


def _shapes(model: Mapping[str, Any], with_head: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes in PyTorch of a network with these settings."""
    head = ProjectionHead(
        model.get("head_hidden", 0),
        model.get("dim", 1),
        model.get("head_layers", 2),
        model.get("head_norm", True),
    )
    network = backbone(model["arch"], stem=model["stem"], width=model["width"])
    crops = [jax.ShapeDtypeStruct((1, 1, PIXELS, PIXELS, 3), jnp.float32)]
    init = partial(Encoder(network, head).init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), crops)
    zero = np.zeros((), np.float32)
    empty = jax.tree.map(lambda leaf: np.broadcast_to(zero, leaf.shape), variables)
    names = to_torch(empty)
    return {
        name: value.shape for name, value in names.items() if with_head or not name.startswith(HEAD)
    }


def _check(
    tensors: Tensors,
    expected: Mapping[str, tuple[int, ...]],
    names: Mapping[str, str],
    prefix: str = "",
) -> None:
    """Raises ValueError unless these are the tensors of the network."""
    for name, shape in expected.items():
        if name not in tensors:
            problem = f"{prefix}{name} is missing"
        elif tensors[name].shape != shape:
            theirs = names.get(prefix + name, prefix + name)
            problem = (
                f"{theirs} has the shape {tensors[name].shape}, and the other tensors say {shape}"
            )
        else:
            continue
        raise ValueError(problem + _without_it(prefix + name))
    for name in tensors:
        if name not in expected:
            raise ValueError(
                f"{names.get(prefix + name, prefix + name)} is in no network here"
                + _without_it(prefix + name)
            )


def _without_it(name: str) -> str:
    """The remedy, where a training could start without the part that a tensor belongs to."""
    if name.startswith((HEAD, "key_encoder")):
        return "; --config.init_parts=backbone takes the backbone alone"
    return ""


# ---- prototypes ----------------------------------------------------------------------------------


def _without_weight_norm(tensors: Tensors) -> list[np.ndarray]:
    """The sets of prototypes in order, each [K, D].

    A layer with PyTorch's `weight_norm` has lengths g and directions v instead of rows g v / |v|.
    """
    g, v = (
        next((tensors[name] for name in names if name in tensors), None)
        for names in (
            ("prototypes.weight_g", "prototypes.parametrizations.weight.original0"),
            ("prototypes.weight_v", "prototypes.parametrizations.weight.original1"),
        )
    )
    if g is not None and v is not None:
        return [g * v / np.linalg.norm(v, axis=1, keepdims=True)]

    def number(name: str) -> int:
        return int("".join(re.findall(r"\d", name)) or 0)

    return [tensors[name] for name in sorted(tensors, key=number)]


def _useless(sets: list[np.ndarray], dim: int | None) -> str:
    """Why prototypes cannot be used; "" if they can."""
    if not all(len(prototypes) for prototypes in sets):
        return "a set without prototypes"
    if dim is None:
        return "prototypes without a projection head"
    if any(prototypes.shape[1:] != (dim,) for prototypes in sets):
        raise ValueError(
            f"its prototypes have the shapes {', '.join(str(c.shape) for c in sets)}, and its head "
            f"gives embeddings of {dim} numbers; --config.init_parts=backbone takes the backbone "
            "alone"
        )
    return ""


# ---- what is said about it -----------------------------------------------------------------------


def _report(
    source: str,
    format: Format,
    model: Mapping[str, Any],
    found: Mapping[str, Tensors],
    unused: Mapping[str, str],
) -> str:
    settings = {
        "backbone": ("arch", "stem", "width"),
        "head": ("head_hidden", "head_layers", "head_norm", "dim"),
        "prototypes": ("prototypes", "prototype_heads"),
        "key_encoder": (),
    }
    lines = [f"{source}: names of {format.name}"]
    for part, keys in settings.items():
        if part in found:
            known = ", ".join(f"{key}={model[key]}" for key in keys if key in model)
            lines.append(f"  {part:<12} {len(found[part]):>4} tensors  {known}")
        else:
            lines.append(f"  {part:<12} {'none':>4}")
    for why in sorted(set(unused.values())):
        names = [name for name, reason in unused.items() if reason == why]
        more = ", ..." * (len(names) > 3)
        lines.append(
            f"  {'not used':<12} {len(names):>4} tensors  {why}: {', '.join(names[:3])}{more}"
        )
    if format.warning and model["stem"] != "imagenet":
        lines.append(f"  {format.warning}")
    return "\n".join(line.rstrip() for line in lines)
