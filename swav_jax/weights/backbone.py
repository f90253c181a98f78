"""Trained backbones for use elsewhere."""

from pathlib import Path
from typing import Any

from swav_jax.checkpoints.read import load_variables
from swav_jax.models.backbones import Backbone, backbone
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
        model["arch"],
        stem=model["stem"],
        width=model["width"],
        dtype=model["dtype"],
        bn_groups=model["bn_groups"],
    )
    return module, {collection: tree["backbone"] for collection, tree in variables.items()}
