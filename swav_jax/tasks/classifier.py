"""A classifier on a run's backbone: a run of method `supervised` in a folder of the workdir.

It has a configuration, metrics and checkpoints of its own, and goes on after a kill as any run.
"""

import hashlib
import math
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from swav_jax.checkpoints.read import load_metadata
from swav_jax.config import ConfigError, of_method, sizes
from swav_jax.data.sources.source import DataError, Source
from swav_jax.evals.labelled import Images, labelled, unusable
from swav_jax.images import on_evaluated_images
from swav_jax.runtime.storage import AnyPath
from swav_jax.train import pretrain
from swav_jax.trained import Trained
from swav_jax.workdir import OtherRun, begun, read_config, read_metrics, read_results

BATCH = 256  # of the published protocols
# What of `data` tells the images of classifiers apart, and the settings that choose it.
IMAGES = {
    "name": "eval.data_name",
    "data_dir": "eval.data_dir",
    "train": "eval.train",
    "test": "eval.test",
    "label_key": "data.label_key",
}


@dataclass(frozen=True)
class Protocol:
    """How a classifier is trained: SGD with momentum 0.9 in batches of 256, on crops and flips.

    Attributes:
      epochs: of the labelled images.
      min_scale: share of an image's area that a crop shows at least.
      lr: of the classifier, for batches of 256; smaller batches have proportionally smaller rates.
      backbone_lr: the same of the backbone; 0 for a frozen one.
      weight_decay: of all that is trained.
      drops: epochs before which both rates fall to a fifth; () for a cosine that falls every epoch.
    """

    epochs: int
    min_scale: float
    lr: float
    backbone_lr: float = 0.0
    weight_decay: float = 0.0
    drops: Sequence[int] = ()

    def __str__(self) -> str:
        rates = f"lr {self.lr:g}"
        rates += f", backbone {self.backbone_lr:g}" if self.backbone_lr else ", frozen backbone"
        falls = f"x0.2 at {', '.join(map(str, self.drops))}" if self.drops else "cosine"
        crops = f"one crop of {self.min_scale:g} to 1 of an image"
        return f"{self.epochs} epochs of SGD, {rates} at batch {BATCH}, {falls}, {crops}"


def labelled_images(trained: Trained, task: str) -> tuple[Images, Images]:
    """The images to train a classifier on and to judge it by, with labels in common terms.

    Raises:
      DataError: there are none, or only one class to learn.
    """
    test = trained.test_images()
    if test is None:
        raise DataError(
            f"--task={task} needs images to classify, and there are none beside the training "
            "images: name their folder or split by --config.eval.test (knn and retrieval can do "
            "without: they leave one out)"
        )
    train = trained.train_images
    pair = labelled(train, test)
    if pair is None:
        raise DataError(f"--task={task}: {unusable(train, test)}")
    check_classes(pair[0].source, f"--task={task}")
    return pair


def check_classes(source: Source, what: str) -> None:
    """Refuses (DataError) labelled images of one class: a classifier would always be right."""
    assert source.labels is not None  # the caller has checked
    if len(np.unique(source.labels)) < 2:
        raise DataError(f"{what} has nothing to learn: all training images are of one class")


def train_classifier(
    trained: Trained, folder: str, source: Source, protocol: Protocol
) -> dict[str, Any]:
    """Trains a classifier, or goes on with it, and says how often it is right.

    Args:
      trained: whose backbone it is on; its settings name the test images.
      folder: of the run's workdir, see `folder_of`, for the classifier's own run.
      source: images with labels that the classifier learns from.
      protocol: how it is trained.

    Returns:
      what `figures_of` gives; {} but in process 0.

    Raises:
      ConfigError: the folder holds a classifier of another checkpoint, other settings or images.
      SystemExit: after a signal, see `pretrain`.
    """
    workdir = folder_of(trained, folder)
    config = _settings(trained, workdir, source, protocol)
    with _other_classifiers_named(workdir):
        pretrain(config, workdir, source)
    return figures_of(workdir) if jax.process_index() == 0 else {}


def check_classifier(trained: Trained, folder: str, source: Source, protocol: Protocol) -> None:
    """Refuses, before any work, what `train_classifier` would; arguments and errors as of it."""
    workdir = folder_of(trained, folder)
    config = _settings(trained, workdir, source, protocol)
    with _other_classifiers_named(workdir):
        begun(config, workdir)


@contextmanager
def _other_classifiers_named(workdir: AnyPath) -> Iterator[None]:
    try:
        yield
    except OtherRun as other:
        raise ConfigError(
            f"{workdir} holds a classifier that was trained otherwise ({other.changed}): use the "
            "same settings to go on with it, or rename that folder to train a new one"
        ) from None


def folder_of(trained: Trained, name: str) -> AnyPath:
    """The folder of a classifier; of other images than the run's, the name gets an ending."""
    return trained.workdir / f"{name}{_ending(trained.config)}"


def flags_of(trained: Trained, folder: AnyPath) -> str:
    """The flags that choose the images of the classifier in a folder; "" for the run's own."""
    theirs, ours = read_config(folder)["data"], trained.config.data
    flags = [f"--config.{IMAGES[key]}={theirs[key]}" for key in IMAGES if theirs[key] != ours[key]]
    return shlex.join(flags)


def figures_of(folder: AnyPath) -> dict[str, Any]:
    """What is known of the classifier in a folder, if it was trained to its end; else {}.

    `top1` and `top5` of the last epoch in percent, `best_top1` and `best_epoch`, the first that has
    it, and the numbers of `train_images` and `test_images`.
    """
    saved, last = load_metadata(folder), read_results(folder).get("classify", {})
    total = sizes(ConfigDict(saved["config"]), saved["images"]).total_steps
    if last.get("checkpoint") != f"step {total}":
        return {}
    name = "classify_top1"
    best = max((line for line in read_metrics(folder) if name in line), key=lambda line: line[name])
    return {
        "top1": last["top1"],
        "top5": last["top5"],
        "best_top1": best[name],
        "best_epoch": round(best["epoch"]),
        "train_images": saved["images"],
        "test_images": last["test_images"],
    }


def _settings(trained: Trained, workdir: AnyPath, source: Source, protocol: Protocol) -> ConfigDict:
    """The configuration of a classifier: the run's, but for what the protocol says."""
    config = of_method(on_evaluated_images(trained.config), "supervised")
    config.init_from, config.init_parts = _origin(trained, workdir), "backbone"
    batch, devices = min(BATCH, 2 ** (source.size.bit_length() - 1)), jax.device_count()
    if batch % devices:
        raise ConfigError(
            f"{source.size} images with labels make batches of {batch}, which {devices} devices "
            f"cannot share: use more labels, or {math.gcd(batch, devices)} of the devices"
        )

    data = config.data
    pixels = data.eval_crop or data.eval_resize or _pixels(source)
    data.batch_size, data.crops = batch, ((1, pixels, protocol.min_scale, 1.0),)
    config.augment.jitter = config.augment.grey = config.augment.blur = 0.0
    config.model.prototypes, config.model.prototype_heads = len(source.class_names), 1
    config.model.bn_groups = 1
    config.method.backbone_lr_factor = protocol.backbone_lr / protocol.lr

    optim = config.optim
    optim.name, optim.momentum, optim.weight_decay = "sgd", 0.9, protocol.weight_decay
    optim.base_lr, optim.final_lr = protocol.lr * batch / BATCH, 0.0
    optim.start_lr = optim.warmup_epochs = 0.0
    optim.schedule = "drops" if protocol.drops else "cosine_by_epoch"
    optim.drop_epochs, optim.drop_factor = tuple(protocol.drops), 0.2

    config.train.epochs, config.train.steps, config.train.accumulate = protocol.epochs, None, 1
    config.train.log_every_steps = min(50, source.size // batch)
    checkpoint = config.checkpoint
    checkpoint.every_epochs = checkpoint.every_steps = checkpoint.keep_every_steps = 0
    checkpoint.every_minutes, checkpoint.keep_last = checkpoint.every_minutes or 5.0, 2
    for key in ("data_name", "data_dir", "train", "test", "images"):
        config.eval[key] = ""  # they are in the section `data` now
    config.eval.classify_every_epochs = 1
    config.profile.steps = ""
    return config


def _ending(config: ConfigDict) -> str:
    """What tells the images of `eval` apart; "" for the run's own."""
    images = on_evaluated_images(config).data
    if all(images[key] == config.data[key] for key in IMAGES):
        return ""
    text = "\n".join(images[key] for key in IMAGES)
    return f"_{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _origin(trained: Trained, workdir: AnyPath) -> str:
    """The checkpoint that is judged, by the path that it had when its classifier began."""
    checkpoint, began = trained.checkpoint, read_config(workdir).get("init_from", "")
    same = PurePath(began).parts[-2:] == checkpoint.parts[-2:]
    return began if same else os.fspath(checkpoint)


def _pixels(source: Source) -> int:
    """The shorter side of the first image."""
    if source.shape:
        return min(source.shape)
    from swav_jax.data.tf import tf

    return int(min(source.read(tf.constant(0, tf.int64)).shape[:2]))
