"""What can be configured, and what is refused before anything is computed."""

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict, config_dict
from PIL import ImageColor

from swav_jax.augment.photometric import Augment
from swav_jax.methods import METHODS
from swav_jax.methods.contract import Sizes
from swav_jax.models.backbones import ARCHS, REMATS, STEMS
from swav_jax.optim import OPTIMIZERS, SCHEDULES
from swav_jax.sharding import BANK_MEMORIES

# Durations that have a key in epochs and one in steps, which overrides it where it is not None.
DURATIONS = (
    ("method", "freeze_prototypes_epochs", "freeze_prototypes_steps"),
    ("train", "log_every_epochs", "log_every_steps"),
)

CACHES = ("auto", "device", "host", "none")  # that `data.cache` names
CROP_ON = ("auto", "host", "device")  # that `data.crop_on` names
INIT_PARTS = ("backbone", "head", "prototypes", "key_encoder")  # that `init_parts` names
# What can be chosen of `eval`; "" leaves the choice to the task.
EVAL_CHOICES = {
    "layer": ("pooled", "embedding", "activated", "c1", "c2", "c3", "c4", "c5"),
    "format": ("", "npz", "parquet", "csv"),
    "linear_protocol": ("sgd", "fast", "both"),
    "cluster_by": ("", "prototypes", "sinkhorn", "kmeans"),
    "sort_by": ("copy", "link"),
}

TOO_LARGE = 2**31  # for the devices' integers, and so for a count of steps
POSITIVE = (math.ulp(0.0), math.inf)
# Settings by their least and most value; those of `method` are of all methods.
LIMITS: dict[tuple[float, float], dict[str, tuple[str, ...]]] = {
    (1, math.inf): {
        "checkpoint": ("keep_last",),
        "data": ("batch_size",),
        "eval": (
            "batch_size",
            "clusters",
            "finetune_epochs",
            "knn_k",
            "linear_epochs",
            "neighbours",
            "retrieval_k",
            "semisup_epochs",
        ),
        "mesh": ("model",),
        "method": (
            "components",
            "granularity",
            "kmeans_iterations",
            "kmeans_restarts",
            "negative_prototypes",
            "sinkhorn_iterations",
        ),
        "model": ("bn_groups", "dim", "head_layers", "prototype_heads", "prototypes"),
        "train": ("accumulate", "epochs", "log_every_steps", "steps"),
    },
    (0, math.inf): {
        "augment": (
            "blur_radius",
            "blur_reference_size",
            "brightness",
            "contrast",
            "saturation",
        ),
        "checkpoint": ("every_epochs", "every_minutes", "every_steps", "keep_every_steps"),
        "data": ("eval_crop", "eval_resize", "white_level"),
        "eval": (
            "classify_every_epochs",
            "knn_every_epochs",
            "quality_every_epochs",
            "quality_images",
            "subset",
        ),
        "mesh": ("spread_parameters_above",),
        "method": (
            "assignment_crops",
            "backbone_lr_factor",
            "freeze_prototypes_epochs",
            "freeze_prototypes_steps",
            "queue_length",
            "queue_start_epoch",
            "warmup_epochs",
        ),
        "model": ("head_hidden", "width"),
        "optim": (
            "base_lr",
            "drop_epochs",
            "final_lr",
            "start_lr",
            "warmup_epochs",
            "weight_decay",
        ),
    },
    (0, 4096): {
        "data": ("threads",),
    },
    POSITIVE: {
        "augment": ("std",),
        "eval": ("knn_temperature", "linear_lr", "min_scale"),
        "method": ("epsilon", "temperature"),
        "train": ("log_every_epochs",),
    },
    (0, 1): {
        "augment": ("blur", "flip", "grey", "jitter"),
        "data": ("max_bad_fraction",),
        "eval": ("duplicate_threshold", "min_scale", "outlier_share"),
        "method": ("momentum",),
        "optim": ("drop_factor", "momentum"),
    },
    (0, 0.5): {
        "augment": ("hue",),
    },
}


class ConfigError(ValueError):
    """A setting that cannot work; the message names it and a remedy."""


def defaults(method: str = "swav") -> ConfigDict:
    """All settings, with the published ImageNet values of SwAV at batch 4096 where there are any.

    Files in `configs/` start from here and change what their experiment needs. The section `method`
    holds the hyper-parameters of the chosen method. A duration X is `X_epochs` epochs, or `X_steps`
    steps where there is such a key and it is not None.
    """
    if method not in METHODS:
        raise ConfigError(_unknown_method(method))
    config = ConfigDict()
    config.seed = 0
    config.init_from = ""  # a workdir, checkpoint or file of weights that training starts from
    config.init_parts = "auto"  # what of it: names of INIT_PARTS; auto: see docs/transfer.md

    data = config.data = ConfigDict()
    data.name = "tfds:imagenet2012"  # digits, folder, npz, tfds:<name>
    data.data_dir = ""
    data.train = "train"  # subfolder or TFDS split
    data.test = "validation"  # labelled, for k-NN; "" for none
    data.image_key = ""  # the feature of a TFDS data set that is the image; "" by docs/data.md
    data.label_key = ""  # the feature that is the label; "" by docs/data.md
    data.download = False  # let TFDS fetch what is not prepared
    data.batch_size = 4096  # images of one step over all devices
    data.crops = ((2, 224, 0.14, 1.0), (6, 96, 0.05, 0.14))  # (number, pixels, scale from, to)
    data.eval_resize = 256  # shorter side before the centre crop
    data.eval_crop = 224
    data.background = "white"  # under transparent pixels, as CSS names colours; "" drops alpha
    data.white_level = 0.0  # of images with more than 8 bits; 0 for what the images have
    data.exif_orientation = False  # turn images as their EXIF data say
    data.max_bad_fraction = 0.01  # unreadable images tolerated, as a share of the data set
    data.cache = "auto"  # where decoded images are kept: one of CACHES, see docs/data.md
    data.crop_on = "auto"  # what cuts the crops: one of CROP_ON, see docs/data.md
    data.threads = 0  # of the input pipeline; 0 for as many as there are cores

    config.augment = ConfigDict(_fields(Augment))

    model = config.model = ConfigDict()
    model.arch = "resnet50"
    model.stem = "imagenet"  # or cifar, strided: see models/resnet.py
    model.width = 0  # channels of a ResNet's stem; 0 for those of arch
    model.dtype = "bfloat16"  # of activations; parameters are float32
    model.bn_groups = 1  # batch-norm statistics over 1/bn_groups of the batch
    model.head_hidden = 2048  # 0 for a linear head
    model.head_layers = 2
    model.head_norm = True  # batch norm in the head's hidden layers
    model.dim = 128  # D
    model.prototypes = 3000  # K
    model.prototype_heads = 1  # independent sets of K prototypes

    config.method = ConfigDict({"name": method} | _fields(METHODS[method]))

    optim = config.optim = ConfigDict()
    optim.name = "larc"
    optim.base_lr = 4.8
    optim.final_lr = 0.0048
    optim.start_lr = 0.3  # of the warm-up
    optim.warmup_epochs = 10.0
    optim.schedule = "cosine"
    optim.drop_epochs = ()  # of the schedule "drops"
    optim.drop_factor = 0.1  # of each of these drops
    optim.weight_decay = 1e-6
    optim.momentum = 0.9

    train = config.train = ConfigDict()
    train.epochs = 100
    train.steps = config_dict.placeholder(int)
    train.accumulate = 1  # parts that a batch is processed in
    train.remat = "none"  # or stage, block: whose activations are computed again, to save memory
    train.log_every_steps = 50

    evaluation = config.eval = ConfigDict()  # on images of its own; "" for those of `data`
    evaluation.data_name = ""  # as data.name
    evaluation.data_dir = ""  # as data.data_dir
    evaluation.train = ""  # split whose labelled images vote, or train a classifier
    evaluation.test = ""  # split whose labelled images are classified
    # To embed, to cluster and to look at: a split, or a file that lists images; "" for eval.train.
    evaluation.images = ""
    evaluation.layer = "pooled"  # that embeddings and k-means are of: pooled, embedding, c2, ...
    evaluation.format = ""  # of tables: npz, parquet, csv; "" for npz, and csv for clusters
    evaluation.cluster_by = ""  # prototypes, sinkhorn, kmeans; "" for prototypes if there are any
    evaluation.clusters = 100  # of k-means
    evaluation.sort_into = ""  # a folder that gets one for each cluster, with its images
    evaluation.sort_by = "copy"  # or link
    evaluation.duplicate_threshold = 0.95  # cosine similarity from which images are duplicates
    evaluation.outlier_share = 0.01  # of the images, those that are least like any other
    evaluation.subset = 0  # images of a diverse subset; 0 for none
    evaluation.knn_every_epochs = 0  # besides before and after training; 0 for only those
    evaluation.classify_every_epochs = 1  # of method supervised
    evaluation.knn_k = (20, 200)
    evaluation.knn_temperature = 0.07
    evaluation.min_scale = 0.08  # of random crops to train a classifier on, as a share of an image
    evaluation.linear_protocol = "both"  # or sgd, fast: see docs/evaluation.md
    evaluation.linear_epochs = 100
    evaluation.linear_lr = 0.3  # for batches of 256
    evaluation.semisup_epochs = 20
    evaluation.semisup_list = ""  # a file of image names to learn from, instead of 1 % and 10 %
    evaluation.finetune_epochs = 20
    evaluation.quality_every_epochs = 5
    evaluation.quality_images = 2048  # of the training set, evenly spaced; 0 for no such scores
    evaluation.labels_csv = ""  # a file of the classes of images that show several: task svm
    evaluation.retrieval_k = (1, 10, 100)
    evaluation.neighbours = 10  # of an image, in tasks retrieval and curate
    evaluation.batch_size = 256

    checkpoint = config.checkpoint = ConfigDict()
    checkpoint.every_epochs = 1
    checkpoint.every_steps = 0
    checkpoint.every_minutes = 0.0  # checked every train.log_every_steps
    checkpoint.keep_last = 2
    checkpoint.keep_every_steps = 0  # keeps these for good; 0 for none

    config.profile = ConfigDict()
    config.profile.steps = ""  # "10:15" writes a trace of steps 10 to 14 into workdir/profile

    config.mesh = ConfigDict()
    config.mesh.model = 1  # devices that share the prototypes
    config.mesh.spread_parameters_above = 0  # elements; 0 for none but the prototypes
    config.mesh.bank_memory = "device"  # or host: where DeepCluster-v2's and SeLa-v2's bank lies

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


def check(config: ConfigDict, devices: int) -> None:
    """Refuses a configuration that cannot run, as far as can be told without the data.

    Raises:
      ConfigError: names the first problem and a remedy.
    """
    problem = next(_problems(config, devices), None)
    if problem:
        raise ConfigError(problem)


def _problems(config: ConfigDict, devices: int) -> Iterator[str]:
    """All problems in order; a later check relies on the earlier ones, so only the first counts."""
    method = config.get("method")
    name = str(method.get("name")) if isinstance(method, ConfigDict) else ""
    if name not in METHODS:
        yield _unknown_method(name)
    yield from _differences(defaults(name), config)
    yield from _unknown_choices(config)
    yield from _out_of_range(config)
    yield from _data_problems(config.data, config.eval)
    yield from _batch_problems(config, devices)
    for key, like in (("knn_k", "(20, 200)"), ("retrieval_k", "(1, 10, 100)")):
        if not config.eval[key]:
            yield f"eval.{key} {config.eval[key]} must name numbers of neighbours, like {like}"
    if config.model.width and "width" not in ARCHS[config.model.arch]:
        yield f"model.width {config.model.width} is for ResNets; {config.model.arch} takes 0"
    if config.train.remat != "none" and "width" not in ARCHS[config.model.arch]:
        yield f"train.remat {config.train.remat} is for ResNets; {config.model.arch} takes none"
    parts = config.init_parts.split(",")
    if config.init_parts != "auto" and ("backbone" not in parts or set(parts) - {*INIT_PARTS}):
        yield (
            f"init_parts {config.init_parts!r} is neither auto nor backbone, alone or with others "
            f"of {', '.join(INIT_PARTS)}, separated by commas"
        )
    if not 0 <= config.seed < 2**31:
        yield f"seed {config.seed} must lie between 0 and {2**31 - 1}"
    try:
        profiled_steps(config.profile.steps)
        Augment(**config.augment.to_dict())
    except ValueError as error:
        yield str(error)


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


def _unknown_method(name: str) -> str:
    return f"unknown method.name {name!r}; known are {', '.join(METHODS)}"


def _unknown_choices(config: ConfigDict) -> Iterator[str]:
    for path, value, choices in (
        ("model.arch", config.model.arch, tuple(ARCHS)),
        ("model.stem", config.model.stem, tuple(STEMS)),
        ("model.dtype", config.model.dtype, ("bfloat16", "float32", "float64")),
        ("train.remat", config.train.remat, REMATS),
        ("optim.name", config.optim.name, tuple(OPTIMIZERS)),
        ("optim.schedule", config.optim.schedule, tuple(SCHEDULES)),
        ("data.cache", config.data.cache, CACHES),
        ("data.crop_on", config.data.crop_on, CROP_ON),
        ("mesh.bank_memory", config.mesh.bank_memory, tuple(BANK_MEMORIES)),
        *((f"eval.{key}", config.eval[key], choices) for key, choices in EVAL_CHOICES.items()),
    ):
        if value not in choices:
            known = ", ".join(filter(None, choices))
            yield f"unknown {path} {value!r}; known are {known}"
    dtype = config.model.dtype
    if (computed := jax.dtypes.canonicalize_dtype(dtype)) != dtype:
        yield (
            f"model.dtype is {dtype}, but JAX would compute in {computed}: set the environment "
            "variable JAX_ENABLE_X64=1"
        )


def _out_of_range(config: ConfigDict) -> Iterator[str]:
    for (low, high), sections in LIMITS.items():
        for section, keys in sections.items():
            for key in keys:
                value = config[section].get(key)
                if not all(low <= number <= high for number in _numbers(value)):
                    least = "above 0" if (low, high) == POSITIVE else f"at least {low}"
                    most = f" and at most {high}" if high < math.inf else ""
                    what = "it" if isinstance(value, int | float) else "each number"
                    yield f"{section}.{key} is {value}; {what} must be {least}{most}"


def _data_problems(data: ConfigDict, evaluation: ConfigDict) -> Iterator[str]:
    names = {"data.name": data.name, "eval.data_name": evaluation.data_name or data.name}
    for key, name in names.items():
        if name not in ("digits", "folder", "npz") and not name.startswith("tfds:"):
            yield f"unknown {key} {name!r}; use digits, folder, npz or tfds:<name>"
    for name, what in (("folder", "the folder of images"), ("npz", "the .npz file")):
        if data.name == name and not data.data_dir:
            yield f"data.name is {name}, so data.data_dir must name {what}"
        if evaluation.data_name == name and not (evaluation.data_dir or data.data_dir):
            yield f"eval.data_name is {name}, so eval.data_dir must name {what}"
    if data.background:
        try:
            ImageColor.getrgb(data.background)
        except ValueError:
            yield f"data.background {data.background!r} is no colour; use one like white or #808080"
    if data.cache == "device" and data.crop_on == "host":
        yield (
            "data.cache is device and data.crop_on host, but images on the devices are cut there: "
            "set data.crop_on=auto, or data.cache=host"
        )
    if not data.crops:
        yield "data.crops is empty; it lists (number, pixels, smallest scale, largest scale)"
    for crop in data.crops:
        if not isinstance(crop, tuple | list):
            yield f"data.crops has {crop}; it lists crops like ((2, 224, 0.14, 1.0),)"
        elif not all(isinstance(number, int | float) for number in crop):
            yield f"data.crops has {crop}; all four of a crop are numbers"
        elif not _same_kind((0,), crop[:2]):
            yield f"data.crops has {crop}; the number of crops and their pixels are whole numbers"
        elif len(crop) != 4 or crop[0] < 1 or crop[1] < 1 or not 0 < crop[2] <= crop[3] <= 1:
            yield f"data.crops has {crop}; each is (number, pixels, 0 < from <= to <= 1)"
    if 0 < data.eval_resize < data.eval_crop:
        yield (
            f"data.eval_crop {data.eval_crop} does not fit into images of data.eval_resize "
            f"{data.eval_resize} pixels"
        )


def _batch_problems(config: ConfigDict, devices: int) -> Iterator[str]:
    batch, parts, shards = config.data.batch_size, config.train.accumulate, config.mesh.model
    if devices % shards:
        yield f"mesh.model {shards} does not divide the {devices} devices"
    rows = devices // shards
    if batch % (rows * parts):
        unit = rows * parts
        yield (
            f"data.batch_size {batch} is not a multiple of {unit} ({rows} data-parallel devices x "
            f"{parts} accumulated parts); try {max(round(batch / unit), 1) * unit}"
        )
    if batch // parts % config.model.bn_groups:
        yield (
            f"model.bn_groups {config.model.bn_groups} does not divide the {batch // parts} images "
            "that are processed at a time"
        )
    if config.model.prototypes % shards:
        yield f"mesh.model {shards} does not divide model.prototypes {config.model.prototypes}"


def train_split(config: ConfigDict) -> str:
    """The split whose labelled images vote in evaluations."""
    return config.eval.train or config.data.train


def test_split(config: ConfigDict) -> str:
    """The split whose labelled images are classified in evaluations; "" for none."""
    return config.eval.test or config.data.test


def split_warnings(config: ConfigDict) -> list[str]:
    """Warns of an evaluation that classifies images by themselves."""
    if test_split(config) != train_split(config):
        return []
    test = "eval.test" if config.eval.test else "data.test"
    train = "eval.train" if config.eval.train else "data.train"
    return [
        f"{test} and {train} are both {test_split(config)!r}: each image is its own nearest "
        f"neighbour, and k-NN measures nothing. Name other images by {test}."
    ]


def duration_warnings(config: ConfigDict) -> list[str]:
    """Warns of durations in epochs that have no effect because they are set in steps too."""
    usual = defaults(config.method.name)
    return [
        f"{section}.{steps} {config[section][steps]} overrides {section}.{epochs} {length:g}."
        for section, epochs, steps in DURATIONS
        if config[section].get(steps) is not None
        and (length := config[section][epochs]) != usual[section][epochs]
    ]


def _fields(cls: type) -> dict[str, Any]:
    """The fields of a dataclass that have defaults."""
    fields = dataclasses.fields(cls)
    return {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}


def _differences(known: ConfigDict, config: ConfigDict, prefix: str = "") -> Iterator[str]:
    """Keys that no code reads, keys that are missing, values of another type."""
    for key in config:
        if key not in known:
            place = f"the section {prefix[:-1]}" if prefix else "the top level"
            yield f"unknown setting {prefix}{key}; {place} has {', '.join(known)}"
    for key, default in known.items():
        if key not in config:
            yield f"missing setting {prefix}{key} (default {default!r})"
            continue
        path, value = f"{prefix}{key}", config[key]
        if isinstance(default, ConfigDict) and isinstance(value, ConfigDict):
            yield from _differences(default, value, f"{path}.")
        elif isinstance(default, ConfigDict):
            yield f"{path} is {value!r}, but it is a section, of {', '.join(default)}"
        elif isinstance(value, ConfigDict):
            yield f"{path} is a section, but it is a setting, like {default!r}"
        elif value is None and key in [steps for _, _, steps in DURATIONS]:
            continue
        elif not _same_kind(default, value):
            yield (
                f"{path} is {value!r}, of type {type(value).__name__}; "
                f"expected {_kind(default)}, like {default!r}"
            )
        elif not all(abs(number) < TOO_LARGE for number in _numbers(value)):
            yield f"{path} is {value!r}; numbers must be finite, and less than {TOO_LARGE}"


def _same_kind(default: Any, value: Any) -> bool:
    if default is None:
        return value is None or type(value) is int
    if isinstance(default, tuple):
        if not isinstance(value, tuple | list):
            return False
        item = default[0] if default else 0  # drop_epochs holds whole numbers
        return isinstance(item, tuple) or all(_same_kind(item, other) for other in value)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, float | int)
    return isinstance(value, type(default))


def _kind(default: Any) -> str:
    """The type that `_same_kind` asks for."""
    if default is None:
        return "int or None"
    if isinstance(default, tuple):
        return f"tuple of {_kind(default[0] if default else 0)}"
    return type(default).__name__


def _numbers(value: Any) -> Iterator[float]:
    """All numbers of a setting."""
    if isinstance(value, tuple | list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """The configuration as JSON has it: plain dicts and lists."""
    return json.loads(config.to_json(sort_keys=True))
