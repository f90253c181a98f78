"""What a training starts from: trained parts of a run, or of a file of another library."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from swav_jax.checkpoints.read import load_metadata, load_variables, saved_names
from swav_jax.config import INIT_PARTS, ConfigError
from swav_jax.methods.contract import TrainState
from swav_jax.models.backbones import ARCHS
from swav_jax.trees import map_named, named_leaves
from swav_jax.versions import completed
from swav_jax.weights.foreign import SETTINGS, read_weights

# Where the parts of a network are in a training state.
PLACES = {
    "backbone": ("params/backbone", "batch_stats/backbone"),
    "head": ("params/head", "batch_stats/head"),
    "prototypes": ("params/prototypes",),
    "key_encoder": ("extra/key_encoder", "batch_stats/key_encoder"),
}
Leaves = dict[str, Any]  # arrays by their name in a training state


def open_origin(config: ConfigDict, shapes: TrainState | None = None) -> Leaves:
    """The trained parts that `config.init_from` and `config.init_parts` name, if they fit.

    With "auto" that is the backbone of a run, and of a file all that it has and the method uses.

    Args:
      config: of the new run.
      shapes: of the new run's state; None if there is no method, and every part is of use.

    Raises:
      ConfigError: the parts are of another network, or there is no such part.
      WeightsError: the file cannot be used.
      CheckpointError: the checkpoint is damaged.
      FileNotFoundError: there is neither checkpoint nor file.
    """
    path, auto = config.init_from, config.init_parts == "auto"
    here = None if shapes is None else named_leaves(shapes)
    used = INIT_PARTS if here is None else _parts_in(here)
    is_file = Path(path).expanduser().is_file()
    if not auto:
        wanted = config.init_parts.split(",")
    else:
        wanted = [part for part in INIT_PARTS if part in used] if is_file else ["backbone"]
    model, names, load = _in_file(path, wanted, config.model.stem) if is_file else _in_run(path)
    there = _parts_in(names)
    for part in wanted:
        if not auto and (part not in there or part not in used):
            method = f"method {config.method.name}"
            who, its = (path, there) if part not in there else (method, used)
            raise ConfigError(
                f"init_parts is {config.init_parts}, but {who} has no {part}: it has "
                f"{', '.join(its)}. Name some of these, or auto"
            )
    parts = [part for part in wanted if part in there]
    _check_settings(config, model, parts)
    leaves = load([name for name in names if any(_is_of(part, name) for part in parts)])
    for name, leaf in leaves.items():
        if here is not None and (name not in here or here[name].shape != leaf.shape):
            shape = here[name].shape if name in here else "none"
            raise ConfigError(
                f"init_from: {name} has the shape {leaf.shape} in {path}, and {shape} in this run"
            )
    logging.info("taken from %s: %s", path, ", ".join(parts))
    return leaves


# The settings of `config.model` there, the names of all leaves, and a function that reads some.
Found = tuple[Mapping[str, Any], Collection[str], Callable[[list[str]], Leaves]]


def _in_file(path: str, wanted: Collection[str], stem: str) -> Found:
    weights = read_weights(path, wanted, stem)
    logging.info("%s", weights.report)
    return weights.model, weights.leaves, lambda names: {n: weights.leaves[n] for n in names}


def _in_run(path: str) -> Found:
    model = completed(load_metadata(path)["config"])["model"]
    return model, saved_names(path), lambda names: named_leaves(load_variables(path, names)[0])


def start_from(state: TrainState, origin: Leaves) -> TrainState:
    """A fresh state with trained parts in it, in every copy that the method keeps of them.

    Args:
      state: of the run that `open_origin` was asked for, on any devices.
      origin: what `open_origin` gave.
    """

    def put(name: str, leaf: Any) -> Any:
        # Without trained ones, a key encoder begins as a copy of backbone and head.
        value = origin.get(name, origin.get(_copied(name)))
        if value is None:
            return leaf
        return jax.device_put(np.asarray(value, leaf.dtype), leaf.sharding)

    trained = {"params": state.params, "batch_stats": state.batch_stats, "extra": state.extra}
    return dataclasses.replace(state, **map_named(put, trained))


def _copied(name: str) -> str:
    """What a leaf of a key encoder is a copy of."""
    return name.replace("extra/key_encoder/", "params/").replace("/key_encoder/", "/")


def _is_of(part: str, name: str) -> bool:
    return name.startswith(tuple(f"{place}/" for place in PLACES[part]))


def _parts_in(names: Iterable[str]) -> list[str]:
    """The parts that leaves of these names make up."""
    names = list(names)
    return [part for part in PLACES if any(_is_of(part, name) for name in names)]


def _check_settings(config: ConfigDict, model: Mapping[str, Any], parts: Collection[str]) -> None:
    """Raises ConfigError with the settings in which a run differs from trained parts."""
    for part in parts:
        keys = SETTINGS[part]
        if _architecture(config.model) == _architecture(model):  # which has several names
            keys = tuple(key for key in keys if key not in ("arch", "width"))
        if part == "head" and model["head_hidden"] == 0 == config.model.head_hidden:
            keys = ("dim",)  # a head of one layer has no others
        differing = [key for key in keys if key in model and model[key] != config.model[key]]
        if differing:
            there = ", ".join(f"model.{key}={model[key]}" for key in differing)
            here = ", ".join(str(config.model[key]) for key in differing)
            # Prototypes are directions among the embeddings of the head that they came with.
            without = {part, "prototypes"} if part == "head" else {part}
            less = ",".join(other for other in parts if other not in without)
            remedy = f", or take only --config.init_parts={less}" if part != "backbone" else ""
            raise ConfigError(
                f"init_from: the {part} of {config.init_from} has {there}, this run {here}. Set "
                f"{'it' if len(differing) == 1 else 'them'} to the same{remedy}."
            )


def _architecture(model: Mapping[str, Any]) -> dict[str, Any]:
    """What `arch` and `width` mean."""
    settings = ARCHS[model["arch"]]
    return settings | ({"width": model["width"]} if model["width"] else {})
