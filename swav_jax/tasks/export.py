"""The task `export`: writes a run's network in the format of another library."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from swav_jax.checkpoints.read import load_variables
from swav_jax.config import ConfigError
from swav_jax.runtime.storage import AnyPath, entries, in_bucket, written_on_disk
from swav_jax.tasks.classifier import figures_of, flags_of, folder_of
from swav_jax.tasks.linear import LINEAR
from swav_jax.trained import Trained, open_trained
from swav_jax.weights.export import check_format, export
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
    check_format(format)
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
    classifier, figures = _classifier(trained)
    variables["params"] |= classifier
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
        about=_about(trained, figures),
    )


def _about(trained: Trained, of_classifier: Mapping[str, Any]) -> str:
    """Where the weights come from, and their figures; no paths, because the text is published.

    Those of `linear` are the exported classifier's, if there is one: others are of other images.
    """
    config, lines = trained.config, list[str]()
    everything, step = read_results(trained.workdir), f"step {trained.checkpoint.name}"
    if of_classifier:
        everything[LINEAR] = of_classifier
    for task, results in everything.items():
        if isinstance(results, Mapping) and results.get("checkpoint", step) == step:
            numbers = {k: v for k, v in results.items() if isinstance(v, int | float)}
            lines += [f"| {task} | {name} | {value:.5g} |" for name, value in numbers.items()]
    table = "\n".join(["| Task | Figure | Value |", "|---|---|---|", *lines]) if lines else ""
    if trained.checkpoint.name == "0":  # of `--task=import`
        return f"Weights of {Path(config.init_from).name}, imported by swav_jax.\n\n{table}"
    how = f"by method {config.method.name} of swav_jax on {config.data.name}"
    return f"Trained {how}, {trained.checkpoint.name} steps of {config.data.batch_size}.\n\n{table}"


def _classifier(trained: Trained) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and figures of the classifier that `--task=linear` trained on this checkpoint.

    It is that of the images that `eval` names. Without one that was trained to its end both are
    empty; the log says why, and names those of other images.
    """
    named = rf"{LINEAR}(_[0-9a-f]{{6}})?"
    folders = [path for path in entries(trained.workdir) if re.fullmatch(named, path.name)]
    figures = {path: found for path in folders if (found := _figures(trained, path))}
    mine = folder_of(trained, LINEAR)
    for other in (path for path in figures if path != mine):
        flags = flags_of(trained, other) or "no flags of images"
        logging.info("%s has a classifier of other images: %s export it", other, flags)
    if mine in figures:
        found, _ = load_variables(mine, ("params/classifier",))
        return jax.device_get(found["params"]), figures[mine]
    if mine in folders:
        logging.warning(
            "the classifier in %s is left out: it is of another checkpoint, or not trained to its "
            "end; --task=linear says which, or goes on with it",
            mine,
        )
    return {}, {}


def _figures(trained: Trained, folder: AnyPath) -> dict[str, Any]:
    """What `figures_of` gives of a folder, if its classifier is of this checkpoint; else {}."""
    began = PurePath(read_config(folder).get("init_from", "")).name
    if began != trained.checkpoint.name or not saved_steps(folder / CHECKPOINTS):
        return {}
    return figures_of(folder)
