"""Evaluations of a run: from its networks to lines of `results.json`."""

from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jaxtyping import Array, Float, Float32, Int32, PyTree
from ml_collections import ConfigDict

from swav_jax import sharding
from swav_jax.checkpoints.read import load_metadata, load_variables
from swav_jax.config import ConfigError, to_dict
from swav_jax.data.batches import eval_batches
from swav_jax.data.sources import open_source
from swav_jax.data.sources.source import DataError, MissingSplit, Source
from swav_jax.evals.features import Apply, extract
from swav_jax.evals.knn import knn_accuracy
from swav_jax.models.encoder import Encoder
from swav_jax.run import make_encoder, make_mesh
from swav_jax.weights.backbone import BACKBONE
from swav_jax.workdir import update_results


def knn(config: ConfigDict, variables: PyTree, train: Source) -> dict[str, float] | None:
    """Weighted k-NN of the backbone's pooled features on the test images.

    Args:
      config: of the run; `config.eval` has the settings.
      variables: params and batch_stats with at least the backbone.
      train: the labelled images to vote.

    Returns:
      `top1` and `top5` in percent and `k` for the first k of `eval.knn_k`, `k<k>_top1` for each
      further one, and the numbers of images; None without labels or test images.
    """
    test = held_out(config)
    if test is None or train.labels is None or test.labels is None:
        if test is not None:
            logging.info("no k-NN evaluation: the images have no classes")
        return None
    test_labels = renumber_labels(train, test)
    features, test_features = (pooled_features(config, variables, s) for s in (train, test))
    seen, test_seen = features.any(axis=1), test_features.any(axis=1)  # zeros: unreadable
    settings = config.eval
    accuracies = knn_accuracy(
        features[seen],
        train.labels[seen],
        test_features[test_seen],
        test_labels[test_seen],
        ks=settings.knn_k,
        temperature=settings.knn_temperature,
    )
    first, *_ = accuracies.values()
    return (
        first
        | {f"k{k}_top1": scores["top1"] for k, scores in [*accuracies.items()][1:]}
        | {"train_images": train.size, "test_images": test.size}
    )


def renumber_labels(train: Source, test: Source) -> Int32[np.ndarray, "M"]:
    """The test images' labels, numbered as the training images' are: by the classes' names.

    Raises:
      DataError: a class that no training image has.
    """
    assert test.labels is not None  # the caller has seen to it
    if test.class_names == train.class_names:
        return test.labels
    unknown = sorted(set(test.class_names) - set(train.class_names))
    if unknown:
        raise DataError(
            f"no training image has the test images' class {unknown[0]!r}; the training classes "
            f"are {', '.join(train.class_names[:10])}{', ...' * (len(train.class_names) > 10)}"
        )
    number = {name: i for i, name in enumerate(train.class_names)}
    return np.array([number[name] for name in test.class_names], np.int32)[test.labels]


def held_out(config: ConfigDict) -> Source | None:
    """The test images of `config.data`, or None if there are none."""
    data = config.data
    if not data.test:
        return None
    try:
        return _opened(data.name, data.data_dir, data.test, data.download)
    except MissingSplit as missing:
        logging.info("no k-NN evaluation: %s", missing)
        return None


@cache
def _opened(name: str, data_dir: str, split: str, download: bool) -> Source:
    """Opened once a process: the labels of a TFDS split take a pass over its records."""
    return open_source(name, data_dir, split, download=download)


def pooled_features(
    config: ConfigDict, variables: PyTree, source: Source
) -> Float32[np.ndarray, "N F"]:
    """The backbone's pooled features of every centre crop, as `features_of`."""
    return features_of(config, _features(make_encoder(config)), variables, source)


def features_of(
    config: ConfigDict, apply: Apply, variables: PyTree, source: Source
) -> Float32[np.ndarray, "N F"]:
    """What `apply` makes of every image's centre crop, on the current mesh.

    Unreadable images have zeros.
    """
    mesh = jax.sharding.get_mesh()
    rows = mesh.shape["data"]
    batches = eval_batches(
        source,
        -(-config.eval.batch_size // rows) * rows,
        resize=config.data.eval_resize,
        crop=config.data.eval_crop,
        host=jax.process_index(),
        hosts=jax.process_count(),
        max_bad_fraction=config.data.max_bad_fraction,
        threads=config.data.threads,
    )
    return extract(
        apply,
        variables,
        batches,
        source.size,
        place=partial(sharding.put_batch, mesh),
        mean=config.augment.mean,
        std=config.augment.std,
    )


@cache
def _features(encoder: Encoder) -> Apply:
    """One function for each encoder, so that it is compiled once."""

    def apply(variables: PyTree, images: Float[Array, "B S S 3"]) -> Any:
        return encoder.apply(variables, images, method="features")

    return apply


def knn_task(config: ConfigDict, workdir: Path) -> None:
    """Evaluates the newest checkpoint of a workdir by k-NN and adds the result to `results.json`.

    Raises:
      ConfigError: the checkpoint is of another network.
      CheckpointError: there is no intact checkpoint.
      DataError: there are no labelled test images.
    """
    run_config = load_metadata(workdir)["config"]
    if to_dict(config)["model"] != run_config["model"]:
        raise ConfigError(
            f"the run in {workdir} has another network (config.model) than --config: use the "
            "config that it was trained with"
        )
    data = config.data
    train = open_source(data.name, data.data_dir, data.train, download=data.download)
    with jax.set_mesh(make_mesh(config, jax.devices())):
        variables, _ = load_variables(workdir, BACKBONE)
        scores = knn(config, variables, train)
    if scores is None:
        raise DataError(
            "k-NN needs labelled training and test images: name them by data.train and data.test"
        )
    if jax.process_index() == 0:
        update_results(workdir, "knn", scores)
    for name, value in scores.items():
        logging.info("knn %s: %.4g", name, value)
