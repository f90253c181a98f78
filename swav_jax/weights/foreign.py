"""A trained network in a file that another library wrote: which it is, and its variables."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from swav_jax.config import INIT_PARTS
from swav_jax.models.backbones import ARCHS
from swav_jax.weights.architecture import (
    Tensors,
    backbone_settings,
    foreign_head,
    head_settings,
    shapes,
    usual_head,
)
from swav_jax.weights.formats import HEAD, Format, foreign, recognise
from swav_jax.weights.torch_io import WeightsError, read_metadata, read_tensors
from swav_jax.weights.torch_names import from_torch

# The settings of `config.model` that say what a part is.
SETTINGS = {
    "backbone": ("arch", "stem", "width"),
    "head": ("head_hidden", "head_layers", "head_norm", "dim"),
    "prototypes": ("prototypes", "prototype_heads", "dim"),
    "key_encoder": (),
}


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
    taken, left = _taken(found, parts)
    sets = _without_weight_norm(taken["prototypes"]) if "prototypes" in taken else []
    model = _settings(taken, sets, stem)
    variables = _variables(taken, sets, model, recognised.names)
    unused = recognised.unused | {
        recognised.names[_prefix(part) + name]: why
        for part, why in left.items()
        for name in found[part]
    }
    return Weights(
        format=recognised.format,
        parts=tuple(taken),
        model=model,
        leaves={"/".join(place): value for place, value in flatten_dict(variables).items()},
        report=_report(source, recognised.format, model, taken, unused),
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
        if name.endswith(".bias") and name.replace(".bias", ".weight") not in tensors:
            raise ValueError(f"{name.replace('.bias', '.weight')} is missing")
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


def _prefix(part: str) -> str:
    """What the names of a part's tensors begin with in the file, and not in `_by_part`."""
    return "key_encoder." if part == "key_encoder" else ""


def _taken(
    found: Mapping[str, Tensors], parts: Collection[str]
) -> tuple[dict[str, Tensors], dict[str, str]]:
    """The parts that are used, a head with the tensors it has here; and why the others are not."""
    left = {part: "init_parts leaves it out" for part in found if part not in {*parts, "backbone"}}
    taken = {part: tensors for part, tensors in found.items() if part not in left}
    dim = None
    if "head" in taken:
        if why := foreign_head(taken["head"]):
            left["head"] = why
        else:
            taken["head"] = usual_head(taken["head"])
            dim = head_settings(taken["head"])["dim"]
    if "prototypes" in taken and (why := _useless(_without_weight_norm(taken["prototypes"]), dim)):
        left["prototypes"] = why
    return {part: tensors for part, tensors in taken.items() if part not in left}, left


# ---- what it is ----------------------------------------------------------------------------------


def _settings(
    taken: Mapping[str, Tensors], sets: Sequence[np.ndarray], stem: str
) -> dict[str, Any]:
    """The settings of `config.model` that follow from the parts and the sets of prototypes."""
    model = backbone_settings(taken["backbone"], stem)
    if "head" in taken:
        model |= head_settings(taken["head"])
    if sets:
        model |= {"prototypes": len(sets[0]), "prototype_heads": len(sets)}
    return model


def _variables(
    taken: Mapping[str, Tensors],
    sets: Sequence[np.ndarray],
    model: Mapping[str, Any],
    names: Mapping[str, str],
) -> dict[str, Any]:
    """The variables of a training state.

    Raises:
      ValueError: the tensors are not those of a network with these settings.
    """
    expected = shapes(model, with_head="head" in taken)
    network = taken["backbone"] | taken.get("head", {})
    _check(network, expected, names)
    variables = from_torch(network)
    if sets:
        variables["params"]["prototypes"] = {f"prototypes{h}": c for h, c in enumerate(sets)}
    if "key_encoder" in taken:
        slow = taken["key_encoder"]
        if "head" not in taken:
            slow = {name: value for name, value in slow.items() if not name.startswith(HEAD)}
        slow = usual_head(slow)
        _check(slow, expected, names, _prefix("key_encoder"))
        key = from_torch(slow)
        variables["extra"] = {"key_encoder": key["params"]}
        variables["batch_stats"]["key_encoder"] = key["batch_stats"]
    return variables


# ---- whether it is whole -------------------------------------------------------------------------


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
    for g, v in (("weight_g", "weight_v"), ("original0", "original1")):
        lengths = [value for name, value in tensors.items() if name.endswith(g)]
        directions = [value for name, value in tensors.items() if name.endswith(v)]
        if lengths and directions:
            rows = directions[0]
            return [lengths[0] * rows / np.linalg.norm(rows, axis=1, keepdims=True)]
    names = [f"prototypes.prototypes{h}.weight" for h in range(len(tensors))]
    if list(tensors) == ["prototypes.weight"]:
        names = ["prototypes.weight"]
    if set(names) != tensors.keys():
        raise ValueError(f"a set of prototypes is missing: there are {', '.join(tensors)}")
    return [tensors[name] for name in names]


def _useless(sets: Sequence[np.ndarray], dim: int | None) -> str:
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
    lines = [f"{source}: names of {format.name}"]
    for part, keys in SETTINGS.items():
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
