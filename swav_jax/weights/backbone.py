"""Trained backbones for use elsewhere, and as the start of another training."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from swav_jax.checkpoints.read import load_metadata, load_variables
from swav_jax.config import ConfigError
from swav_jax.methods.contract import TrainState
from swav_jax.models.backbones import Backbone, backbone
from swav_jax.trees import map_named, named_leaves
from swav_jax.versions import completed

BACKBONE = ("params/backbone", "batch_stats/backbone")


def load_backbone(path: str | Path) -> tuple[Backbone, dict[str, Any]]:
    """The trained backbone of a run.

    ```python
    model, variables = swav_jax.load_backbone("runs/quickstart")
    features = model.apply(variables, images, train=False)  # float [B, S, S, 3] to [B, F]
    maps = model.apply(variables, images, train=False, method="stages")  # {"c5": ...}
    ```

    Images are floats from 0 to 1, normalised with the mean and std of `config.augment`.

    Args:
      path: a workdir, its `checkpoints` folder, or one checkpoint; the newest one is read.

    Returns:
      The Flax module and its variables, `{"params": ..., "batch_stats": ...}`.

    Raises:
      FileNotFoundError: there is no checkpoint.
      CheckpointError: it is damaged.
    """
    variables, metadata = load_variables(path, BACKBONE)
    model = completed(metadata["config"])["model"]
    module = backbone(
        model["arch"], stem=model["stem"], dtype=model["dtype"], bn_groups=model["bn_groups"]
    )
    return module, {collection: tree["backbone"] for collection, tree in variables.items()}


def check_origin(config: ConfigDict, path: str | Path) -> None:
    """Checks that a run can start from the backbone at `path`, before anything is computed.

    Raises:
      ConfigError: it is of another network.
      CheckpointError: the checkpoint has no readable seal.
      FileNotFoundError: there is none.
    """
    theirs = completed(load_metadata(path)["config"])["model"]
    for key in ("arch", "stem"):
        if config.model[key] != theirs[key]:
            raise ConfigError(
                f"init_from: {path} was trained with model.{key}={theirs[key]}, this run has "
                f"{config.model[key]}. Set model.arch and model.stem to those of that run."
            )


def start_from(state: TrainState, path: str | Path) -> TrainState:
    """A fresh state with the backbone of another run, in every copy that the method keeps of it.

    Args:
      state: of any method with the same backbone, on any devices.
      path: as `load_backbone` takes it.

    Raises:
      CheckpointError: the checkpoint is damaged.
    """
    variables, _ = load_variables(path, BACKBONE)
    learnt = {collection: tree["backbone"] for collection, tree in variables.items()}
    leaves = named_leaves(learnt["params"]) | named_leaves(learnt["batch_stats"])

    def put(name: str, leaf: Any) -> Any:
        _, found, within = f"/{name}".rpartition("/backbone/")
        if not found:
            return leaf
        return jax.device_put(np.asarray(leaves[within], leaf.dtype), leaf.sharding)

    return dataclasses.replace(
        state,
        params=map_named(put, state.params),
        batch_stats=map_named(put, state.batch_stats),
        extra=map_named(put, state.extra),
    )
