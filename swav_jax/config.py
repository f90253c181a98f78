"""All settings with their defaults, and lengths that follow from them."""

import dataclasses
import json
import math
from typing import Any

from ml_collections import ConfigDict, config_dict

from swav_jax.augment.photometric import Augment
from swav_jax.methods import METHODS
from swav_jax.methods.contract import Sizes

# Durations that have a key in epochs and one in steps, which overrides it where it is not None.
DURATIONS = (
    ("method", "freeze_prototypes_epochs", "freeze_prototypes_steps"),
    ("train", "log_every_epochs", "log_every_steps"),
)

INIT_PARTS = ("backbone", "head", "prototypes", "key_encoder")  # that `init_parts` names
TOO_LARGE = 2**31  # for the devices' integers, and so for a count of steps


def _fields(cls: type) -> dict[str, Any]:
    """The fields of a dataclass that have defaults."""
    fields = dataclasses.fields(cls)
    return {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}


# With the published ImageNet values of SwAV at batch 4096 where there are any. Files in `configs/`
# start from these and change what their experiment needs.
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "init_from": "",  # a workdir, checkpoint or file of weights that training starts from
    "init_parts": "auto",  # what of it: names of INIT_PARTS; auto: see docs/transfer.md
    "data": {
        "name": "tfds:imagenet2012",  # digits, folder, npz, tfds:<name>
        "data_dir": "",
        "train": "train",  # subfolder or TFDS split
        "test": "validation",  # labelled, for k-NN; "" for none
        "image_key": "",  # the feature of a TFDS data set that is the image; "" by docs/data.md
        "label_key": "",  # the feature that is the label; "" by docs/data.md
        "download": False,  # let TFDS fetch what is not prepared
        "batch_size": 4096,  # images of one step over all devices
        "crops": ((2, 224, 0.14, 1.0), (6, 96, 0.05, 0.14)),  # (number, pixels, scale from, to)
        "eval_resize": 256,  # shorter side before the centre crop
        "eval_crop": 224,
        "background": "white",  # under transparent pixels, as CSS names colours; "" drops alpha
        "white_level": 0.0,  # of images with more than 8 bits; 0 for what the images have
        "exif_orientation": False,  # turn images as their EXIF data say
        "max_bad_fraction": 0.01,  # unreadable images tolerated, as a share of the data set
        "cache": "auto",  # where decoded images are kept: see limits.py, docs/data.md
        "crop_on": "auto",  # what cuts the crops: see limits.py, docs/data.md
        "threads": 0,  # of the input pipeline; 0 for as many as there are cores
    },
    "augment": _fields(Augment),
    "model": {
        "arch": "resnet50",
        "stem": "imagenet",  # or cifar, strided: see models/resnet.py
        "width": 0,  # channels of a ResNet's stem; 0 for those of arch
        "dtype": "bfloat16",  # of activations; parameters are float32
        "bn_groups": 1,  # batch-norm statistics over 1/bn_groups of the batch
        "head_hidden": 2048,  # 0 for a linear head
        "head_layers": 2,
        "head_norm": True,  # batch norm in the head's hidden layers
        "dim": 128,  # D
        "prototypes": 3000,  # K
        "prototype_heads": 1,  # independent sets of K prototypes
    },
    "method": {},  # hyper-parameters of the chosen one
    "optim": {
        "name": "larc",
        "base_lr": 4.8,
        "final_lr": 0.0048,
        "start_lr": 0.3,  # of the warm-up
        "warmup_epochs": 10.0,
        "schedule": "cosine",
        "drop_epochs": (),  # of the schedule "drops"
        "drop_factor": 0.1,  # of each of these drops
        "weight_decay": 1e-6,
        "momentum": 0.9,
    },
    "train": {
        "epochs": 100,
        "steps": None,  # to the end, in place of epochs
        "accumulate": 1,  # parts that a batch is processed in
        "remat": "none",  # or stage, block: whose activations are computed again, to save memory
        "log_every_steps": 50,
    },
    "eval": {  # on images of its own; "" for those of `data`
        "data_name": "",  # as data.name
        "data_dir": "",  # as data.data_dir
        "train": "",  # split whose labelled images vote, or train a classifier
        "test": "",  # split whose labelled images are classified
        "images": "",  # to embed, cluster and look at: a split, or a file that lists images
        "layer": "pooled",  # that embeddings and k-means are of: pooled, embedding, c2, ...
        "format": "",  # of tables: npz, parquet, csv; "" for npz, and csv for clusters
        "cluster_by": "",  # prototypes, sinkhorn, kmeans; "" for prototypes if there are any
        "clusters": 100,  # of k-means
        "sort_into": "",  # a folder that gets one for each cluster, with its images
        "sort_by": "copy",  # or link
        "duplicate_threshold": 0.95,  # cosine similarity from which images are duplicates
        "outlier_share": 0.01,  # of the images, those that are least like any other
        "subset": 0,  # images of a diverse subset; 0 for none
        "knn_every_epochs": 0,  # besides before and after training; 0 for only those
        "classify_every_epochs": 1,  # of method supervised
        "knn_k": (20, 200),
        "knn_temperature": 0.07,
        "min_scale": 0.08,  # of random crops to train a classifier on, as a share of an image
        "linear_protocol": "both",  # or sgd, fast: see docs/evaluation.md
        "linear_epochs": 100,
        "linear_lr": 0.3,  # for batches of 256
        "semisup_epochs": 20,
        "semisup_list": "",  # a file of image names to learn from, instead of 1 % and 10 %
        "finetune_epochs": 20,
        "quality_every_epochs": 5,
        "quality_images": 2048,  # of the training set, evenly spaced; 0 for no such scores
        "labels_csv": "",  # a file of the classes of images that show several: task svm
        "retrieval_k": (1, 10, 100),
        "neighbours": 10,  # of an image, in tasks retrieval and curate
        "batch_size": 256,
    },
    "checkpoint": {
        "every_epochs": 1,
        "every_steps": 0,
        "every_minutes": 0.0,  # checked every train.log_every_steps
        "keep_last": 2,
        "keep_every_steps": 0,  # keeps these for good; 0 for none
    },
    "profile": {
        "steps": "",  # "10:15" writes a trace of steps 10 to 14 into workdir/profile
    },
    "mesh": {
        "model": 1,  # devices that share the prototypes
        "spread_parameters_above": 0,  # elements; 0 for none but the prototypes
        "bank_memory": "device",  # or host: where DeepCluster-v2's and SeLa-v2's bank lies
    },
}


class ConfigError(ValueError):
    """A setting that cannot work; the message names it and a remedy."""


def defaults(method: str = "swav") -> ConfigDict:
    """SETTINGS, with the hyper-parameters of a method in the section `method`.

    A duration X is `X_epochs` epochs, or `X_steps` steps where there is such a key and it is not
    None.

    Raises:
      ConfigError: there is no such method.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method.name {method!r}; known are {', '.join(METHODS)}")
    config = ConfigDict(SETTINGS)
    config.method = ConfigDict({"name": method} | _fields(METHODS[method]))
    config.train.steps = config_dict.placeholder(int)
    for section, epochs, steps in DURATIONS:
        if steps in config[section]:
            config[section][epochs] = 1.0
            # A reference keeps the type when a config sets None, and flags can set it again.
            config[section][steps] = config_dict.FieldReference(config[section][steps])
    return config.lock()


def of_method(config: ConfigDict, name: str) -> ConfigDict:
    """The configuration for another method: its defaults take the place of the section `method`.

    Args:
      config: unchanged if it is for this method already.
      name: of the method; an unknown one is left for `check` to refuse.
    """
    if name != config.method.name:
        with config.unlocked():
            config.method = defaults(name).method if name in METHODS else ConfigDict({"name": name})
    return config


def sizes(config: ConfigDict, images: int) -> Sizes:
    """The lengths that follow from the configuration and the number of training images.

    Raises:
      ConfigError: a batch that the data set cannot fill.
    """
    batch = config.data.batch_size
    if batch > images:
        raise ConfigError(
            f"data.batch_size {batch} exceeds the {images} training images: no step is possible. "
            f"Try {2 ** int(math.log2(images))}."
        )
    steps_per_epoch = images // batch
    epochs_steps = config.train.epochs * steps_per_epoch
    if epochs_steps >= TOO_LARGE:
        raise ConfigError(
            f"train.epochs {config.train.epochs} of {steps_per_epoch} steps make {epochs_steps} "
            f"steps; there must be less than {TOO_LARGE}"
        )
    total = epochs_steps if config.train.steps is None else config.train.steps
    views = sum(crop[0] for crop in config.data.crops)
    return Sizes(
        images,
        batch,
        views,
        steps_per_epoch,
        total,
        epochs_steps=epochs_steps,
        parts=config.train.accumulate,
    )


def in_steps(config: ConfigDict, steps_per_epoch: int) -> ConfigDict:
    """A copy in which all of DURATIONS are in steps; one above 0 takes at least one step."""
    config = config.copy_and_resolve_references()
    for section, epochs, steps in DURATIONS:
        settings = config[section]
        if steps in settings and settings[steps] is None:
            length = settings[epochs] * steps_per_epoch
            settings[steps] = max(round(length), 1) if length else 0
    return config


def profiled_steps(text: str) -> range:
    """The steps that `profile.steps` names: "10:15" is 10 to 14, "" is none.

    Raises:
      ValueError: anything else.
    """
    if not text:
        return range(0)
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ValueError(
            f"profile.steps {text!r} is not <first step>:<step after last>, like 10:15"
        )
    return range(int(first), int(end))


def train_split(config: ConfigDict) -> str:
    """The split whose labelled images vote in evaluations."""
    return config.eval.train or config.data.train


def test_split(config: ConfigDict) -> str:
    """The split whose labelled images are classified in evaluations; "" for none."""
    return config.eval.test or config.data.test


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """The configuration as JSON has it: plain dicts and lists."""
    return json.loads(config.to_json(sort_keys=True))
