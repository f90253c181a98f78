"""The task `semisup`: how well the network classifies when it is trained on few labels."""

import dataclasses
import hashlib
from typing import NamedTuple

import numpy as np
from absl import logging
from jaxtyping import Int
from ml_collections import ConfigDict

from swav_jax.data.sources.source import DataError, Source
from swav_jax.data.sources.text import read_lines
from swav_jax.evals.labelled import Images, labelled
from swav_jax.evals.subset import balanced, listed
from swav_jax.images import on_evaluated_images, open_split
from swav_jax.runtime.storage import AnyPath, located
from swav_jax.tasks.classifier import (
    Protocol,
    check_classes,
    check_classifier,
    labelled_images,
    train_classifier,
)
from swav_jax.tasks.figures import record
from swav_jax.tasks.finetune import fine_tuning
from swav_jax.trained import Trained, open_trained

# Published learning rates for shares of ImageNet's labels in percent.
RATES = {1: {"lr": 5.0, "backbone_lr": 0.02}, 10: {"lr": 0.2, "backbone_lr": 0.01}}
FEW = 0.05  # of the labels: a list of fewer is trained on as 1 %, of more as 10 %


class Part(NamedTuple):
    """Labelled images that a network is trained on."""

    folder: str  # of the workdir
    name: str  # begins the names of the figures
    source: Source
    choice: str  # how the images were chosen
    protocol: Protocol


def semisup_task(config: ConfigDict, workdir: AnyPath) -> None:
    """Trains on 1 % and 10 % of the labels, or on a list, and records accuracies of each.

    Errors are those of `linear_task`, and DataError for a list with names of no image.
    """
    trained = open_trained(config, workdir)
    train, test = labelled_images(trained, "semisup")
    if trained.config.eval.semisup_list:
        parts = [_listed(trained, train, test)]
    else:
        parts = [_share(trained, train, test, percent) for percent in RATES]
    for part in parts:
        check_classifier(trained, part.folder, part.source, part.protocol)
    for part in parts:
        figures = train_classifier(trained, part.folder, part.source, part.protocol)
        line = f"{part.choice}, {part.protocol}"
        record(trained, "semisup", figures, protocol=line, part=part.name, train=train, test=test)


def _listed(trained: Trained, train: Images, test: Images) -> Part:
    """The images of `eval.semisup_list`."""
    path = located(trained.config.eval.semisup_list)
    try:
        names = [line.decode().strip() for line in read_lines(path)]
    except UnicodeDecodeError as problem:
        raise DataError(f"eval.semisup_list {path} is no text: {problem}") from None
    if not names:
        raise DataError(f"eval.semisup_list {path} names no image: write a file name on each line")
    numbers = listed(train.source, names, "training image with a label")
    source, what = _part(train, numbers), f"eval.semisup_list {path}"
    check_classes(source, what)
    if labelled(dataclasses.replace(train, source=source), test) is None:
        raise DataError(f"{what} names no image of a class that a test image has")
    few = len(numbers) < FEW * train.source.size
    choice = hashlib.sha256(numbers.tobytes()).hexdigest()[:6]  # of images: a folder for each
    return Part(
        folder=f"semisup_{path.stem}_{choice}",
        name=f"list_{path.stem}",
        source=source,
        choice=f"{len(numbers)} images listed in {path.name}",
        protocol=_protocol(trained, 1 if few else 10),
    )


def _share(trained: Trained, train: Images, test: Images, percent: int) -> Part:
    """The published images for a percentage of ImageNet's labels; of others, a draw."""
    if source := _published(trained, train, test, percent):
        choice = "the published images"
    else:
        assert train.source.labels is not None  # `labelled_images` has checked
        source = _part(train, balanced(train.source.labels, percent / 100))
        choice = f"{percent} % of each class"
    name, protocol = f"{percent}pct", _protocol(trained, percent)
    return Part(f"semisup_{percent}", name, source, choice, protocol)


def _protocol(trained: Trained, percent: int) -> Protocol:
    settings = trained.config.eval
    return fine_tuning(settings.semisup_epochs, settings.min_scale, **RATES[percent])


def _part(train: Images, numbers: Int[np.ndarray, "n"]) -> Source:
    """These of the training images."""
    labels = train.source.labels
    assert labels is not None  # `labelled_images` has checked
    return train.source.part(numbers, labels[numbers], train.source.class_names)


def _published(trained: Trained, train: Images, test: Images, percent: int) -> Source | None:
    """The images of `imagenet2012_subset` beside a prepared `imagenet2012`, if they are there."""
    config = on_evaluated_images(trained.config)
    if config.data.name.split(":")[:2] != ["tfds", "imagenet2012"]:
        return None
    config.data.name, config.data.download = f"tfds:imagenet2012_subset/{percent}pct", False
    try:
        source = open_split(config, "train", train.source.pixels)
    except DataError as problem:
        logging.info("the published images are not there, others are drawn: %s", problem)
        return None
    pair = labelled(dataclasses.replace(train, source=source), test)
    return pair[0].source if pair else None
