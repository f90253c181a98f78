"""The task `export`: writes a run's network in the format of another library."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from swav_jax.checkpoints.read import load_variables
from swav_jax.config import ConfigError
from swav_jax.runtime.storage import AnyPath, entries, in_bucket, written_on_disk
from swav_jax.trained import Trained, open_trained
from swav_jax.weights.export import export
from swav_jax.weights.network import Network
from swav_jax.workdir import read_config, read_results

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
    supervised = trained.config.method.name == "supervised"
    keep = ("backbone", "head", "prototypes", *(("classifier",) if supervised else ()))
    variables = {
        collection: {name: tree[name] for name in keep if name in tree}
        for collection, tree in jax.device_get(trained.variables).items()
    }
    variables["params"] |= _classifier(trained)
    return Network(
        arch=model.arch,
        stem=model.stem,
        backbone=trained.encoder.backbone.clone(dtype=jnp.float32),
        variables=variables,
        preprocessing={
            # Other libraries take as many channels as there are numbers.
            "mean": np.broadcast_to(augment.mean, 3).tolist(),
            "std": np.broadcast_to(augment.std, 3).tolist(),
            "resize": data.eval_resize,
            "crop": data.eval_crop,
            "interpolation": "bilinear",
        },
        images=np.random.default_rng(0).normal(size=(EXAMPLES, size, size, 3)).astype(np.float32),
        about=_about(trained),
    )


def _about(trained: Trained) -> str:
    """Where the weights come from, and their figures; no paths, because the text is published."""
    config, lines = trained.config, list[str]()
    for task, results in read_results(trained.workdir).items():
        if isinstance(results, Mapping):
            numbers = {k: v for k, v in results.items() if isinstance(v, int | float)}
            lines += [f"| {task} | {name} | {value:.5g} |" for name, value in numbers.items()]
    table = "\n".join(["| Task | Figure | Value |", "|---|---|---|", *lines]) if lines else ""
    if trained.checkpoint.name == "0":  # of `--task=import`
        return f"Weights of {Path(config.init_from).name}, imported by swav_jax.\n\n{table}"
    how = f"by method {config.method.name} of swav_jax on {config.data.name}"
    return f"Trained {how}, {trained.checkpoint.name} steps of {config.data.batch_size}.\n\n{table}"


def _classifier(trained: Trained) -> dict[str, Any]:
    """The one that `--task=linear` trained on this checkpoint to its end, if it did."""
    workdir, found = trained.workdir / "linear", read_results(trained.workdir).get("linear", {})
    began = Path(read_config(workdir).get("init_from", ""))
    if "top1" not in found or began.name != trained.checkpoint.name:
        return {}
    if found.get("checkpoint") != f"step {trained.checkpoint.name}":
        return {}
    found, _ = load_variables(workdir, ("params/classifier",))
    return jax.device_get(found["params"])
