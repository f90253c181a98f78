"""Trained backbones for use elsewhere."""

from pathlib import Path
from typing import Any

from swav_jax.checkpoint import load_variables
from swav_jax.models import Backbone, backbone


def load_backbone(path: str | Path) -> tuple[Backbone, dict[str, Any]]:
    """The backbone of a training run, with what it has learnt.

    ```python
    model, variables = swav_jax.load_backbone("runs/quickstart")
    features = model.apply(variables, images, train=False)  # float [B, S, S, 3] to [B, F]
    maps = model.apply(variables, images, train=False, method="stages")  # c2 to c5
    ```

    Images are floats from 0 to 1, normalised with the mean and std of `config.augment`.

    Args:
      path: a workdir, its `checkpoints` folder, or one checkpoint; the newest one is read.

    Returns:
      The Flax module and its variables, `{"params": ..., "batch_stats": ...}`.

    Raises:
      CheckpointError: there is no checkpoint, or it is damaged.
    """
    variables, metadata = load_variables(path, ("params/backbone", "batch_stats/backbone"))
    model = metadata["config"]["model"]
    module = backbone(
        model["arch"], stem=model["stem"], dtype=model["dtype"], bn_groups=model["bn_groups"]
    )
    return module, {collection: tree["backbone"] for collection, tree in variables.items()}
