"""The task `export`: writes a run's network in the format of another library."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from swav_jax.checkpoints.read import find, load_variables
from swav_jax.config import ConfigError
from swav_jax.runtime.storage import AnyPath, entries, in_bucket, written_on_disk
from swav_jax.trained import Trained, open_trained
from swav_jax.weights.export import export
from swav_jax.weights.network import Network
from swav_jax.workdir import CHECKPOINTS, read_config, read_results, saved_steps

EXPORT = "export"  # folder in the workdir
EXAMPLES = 4


def export_task(config: ConfigDict, workdir: AnyPath, format: str) -> None:
    """Writes `<workdir>/export/<format>` and prints the proof.

    Raises:
      ConfigError: the format has no place for this network, or a bucket holds such an export.
      FileNotFoundError: there is no checkpoint.
    """
    place = workdir / EXPORT
    if in_bucket(place) and entries(place / format):
        raise ConfigError(f"{place / format} is there already: remove it, or copy it elsewhere")
    trained = open_trained(config, workdir)
    if jax.process_index() == 0:
        with written_on_disk(place) as folder:
            made, proof = export(network_of(trained), format, Path(folder))
        print(f"{place / made.name}: {proof}")


def network_of(trained: Trained) -> Network:
    """The trained network in float32, which other libraries compute in, with noise as examples."""
    data, model, augment = trained.config.data, trained.config.model, trained.config.augment
    size = data.eval_crop or data.eval_resize or max(crop[1] for crop in data.crops)
    keep = ("backbone", "head", "prototypes")
    variables = {
        collection: {name: tree[name] for name in keep if name in tree}
        for collection, tree in jax.device_get(trained.variables).items()
    }
    variables["params"] |= _classifier(trained)
    figures = {name: value for name, value in read_results(trained.workdir).items()}
    return Network(
        arch=model.arch,
        stem=model.stem,
        backbone=trained.encoder.backbone.clone(dtype=jnp.float32),
        variables=variables,
        preprocessing={
            "mean": list(augment.mean),
            "std": list(augment.std),
            "resize": data.eval_resize,
            "crop": data.eval_crop,
            "interpolation": "bilinear",
        },
        images=np.random.default_rng(0).normal(size=(EXAMPLES, size, size, 3)).astype(np.float32),
        about=f"Method {trained.config.method.name}, data {data.name}; figures in percent:\n\n"
        f"```json\n{json.dumps(figures, indent=2)}\n```",
    )


def _classifier(trained: Trained) -> dict[str, Any]:
    """The one that `--task=linear` trained on this checkpoint, if it did."""
    workdir = trained.workdir / "linear"
    began = Path(read_config(workdir).get("init_from", ""))
    if not saved_steps(workdir / CHECKPOINTS) or began.name != find(trained.workdir).name:
        return {}
    found, _ = load_variables(workdir, ("params/classifier",))
    return jax.device_get(found["params"])
