"""What settings may be: the first that cannot work is refused before anything is computed."""

import math
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict
from PIL import ImageColor

from swav_jax.augment.photometric import Augment
from swav_jax.config import (
    DURATIONS,
    INIT_PARTS,
    TOO_LARGE,
    ConfigError,
    defaults,
    profiled_steps,
    test_split,
    train_split,
)
from swav_jax.models.backbones import ARCHS, REMATS, STEMS
from swav_jax.optim import OPTIMIZERS, SCHEDULES
from swav_jax.sharding import BANK_MEMORIES

CACHES = ("auto", "device", "host", "none")  # that `data.cache` names
CROP_ON = ("auto", "host", "device")  # that `data.crop_on` names
# What can be chosen of `eval`; "" leaves the choice to the task.
EVAL_CHOICES = {
    "layer": ("pooled", "embedding", "activated", "c1", "c2", "c3", "c4", "c5"),
    "format": ("", "npz", "parquet", "csv"),
    "linear_protocol": ("sgd", "fast", "both"),
    "cluster_by": ("", "prototypes", "sinkhorn", "kmeans"),
    "sort_by": ("copy", "link"),
}

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
