import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from tiny import tiny_config

from swav_jax.config import ConfigError, defaults
from swav_jax.data.batch import batch_shapes
from swav_jax.data.sources import DataError, open_source
from swav_jax.limits import LIMITS, check, duration_warnings, split_warnings
from swav_jax.methods import METHODS
from swav_jax.run import build


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("method.name", "swaw", "unknown method.name 'swaw'; known are swav"),
        ("model.arch", "resnet51", "unknown model.arch"),
        ("model.stem", "cifar100", "unknown model.stem"),
        ("model.dtype", "float16", "unknown model.dtype"),
        (
            "model.dtype",
            "float64",
            "dtype is float64, .* variable JAX_ENABLE_X64=1",
        ),
        ("optim.name", "adam", "unknown optim.name"),
        ("optim.schedule", "line", "unknown optim.schedule"),
        ("mesh.bank_memory", "disk", "unknown mesh.bank_memory 'disk'; known are device, host"),
        ("method.assignment_crops", ("(0",), r"method.assignment_crops is \('\(0',\), of type"),
        ("optim.drop_epochs", (1.5, 2), "optim.drop_epochs is"),
        ("data.name", "npz", "must name the .npz file"),
        ("data.name", "cifar10", "use digits, folder, npz or tfds:<name>"),
        ("data.name", "folder", "data.data_dir must name"),
        ("data.background", "whyte", "data.background 'whyte' is no colour; use one like white"),
        ("data.white_level", -1.0, "data.white_level is -1.0; it must be at least 0"),
        ("data.crops", (), "data.crops is empty"),
        ("data.crops", ((2, 32, 0.5, 0.1),), "data.crops has"),
        ("data.batch_size", 102, "not a multiple of 4 .*; try 104"),
        ("data.batch_size", 0, "data.batch_size is 0"),
        ("data.max_bad_fraction", 2.0, "must be at least 0 and at most 1"),
        ("model.prototypes", 0, "model.prototypes is 0; it must be at least 1"),
        ("method.epsilon", 0.0, "method.epsilon is 0.0; it must be above 0"),
        ("method.queue_length", -256, "method.queue_length is -256"),
        ("augment.jitter", 1.5, "augment.jitter is 1.5"),
        ("data.crops", ((2, "32", 0.3, 1.0),), "are numbers"),
        ("data.crops", ((2.0, 32, 0.3, 1.0),), "are whole numbers"),
        ("data.crops", ((True, 32, 0.3, 1.0),), "are whole numbers"),
        ("data.eval_crop", -1, "data.eval_crop is -1"),
        ("data.threads", 10**6, "data.threads is 1000000; it must be at least 0 and at most 4096"),
        ("train.steps", 2**31, "train.steps is 2147483648; numbers must be finite, and less than"),
        ("optim.warmup_epochs", math.inf, "optim.warmup_epochs is inf; numbers must be finite"),
        ("optim.base_lr", math.nan, "optim.base_lr is nan; numbers must be finite"),
        ("optim.drop_epochs", (60, -1), "optim.drop_epochs is .*; each number must be at least 0"),
        ("augment.blur_radius", (2.0, 0.1), r"blur_radius is .*; it is \(smallest, largest\)"),
        ("augment.blur_radius", (0.1,), r"blur_radius is .*; it is \(smallest, largest\)"),
        ("augment.blur_reference_size", -1, "augment.blur_reference_size is -1"),
        ("augment.std", (0.2, 0.0, 0.2), "augment.std is .*; each number must be above 0"),
        ("augment.std", (0.2, 0.2), "augment.std is .* red, green and blue each, or one for all"),
        ("augment.mean", (), "augment.mean is .* red, green and blue each, or one for all"),
        ("augment.mean", ("a", "b", "c"), "augment.mean is .*expected tuple of float"),
        ("augment.order", ("flip", "flip"), "augment.order is .* each once"),
        ("model.bn_groups", 7, "model.bn_groups 7 does not divide"),
        ("model.prototypes", 3001, "mesh.model 2 does not divide model.prototypes"),
        ("mesh.model", 3, "does not divide the 8 devices"),
        ("train.accumulate", 0, "train.accumulate is 0"),
        ("train.remat", "layer", "unknown train.remat 'layer'; known are none, stage, block"),
        ("train.epochs", 0, "train.epochs is 0"),
        ("train.steps", 0, "train.steps is 0"),
        ("checkpoint.keep_last", 0, "checkpoint.keep_last is 0"),
        ("data.crops", (2, 32, 0.3, 1.0), "it lists crops like"),
        ("data.crop_on", "gpu", "unknown data.crop_on 'gpu'; known are auto, host, device"),
        ("data.eval_crop", 300, "does not fit"),
        ("eval.knn_k", (), "eval.knn_k"),
        ("eval.retrieval_k", (), "eval.retrieval_k"),
        ("seed", -1, "seed -1 must lie"),
        ("profile.steps", "10", "like 10:15"),
        ("augment.order", ("flip", "twist"), "twist"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(key, value, complaint):
    config = defaults()
    config.mesh.model = 2
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match=complaint):
        check(config, devices=8)


def test_every_limit_is_of_a_setting():
    known = {name: defaults(name) for name in METHODS}
    for sections in LIMITS.values():
        for section, keys in sections.items():
            assert all(any(key in config[section] for config in known.values()) for key in keys)


def test_unknown_and_mistyped_settings_are_refused():
    config = defaults()
    with config.unlocked():
        config.data.bach_size = 3
    with pytest.raises(ConfigError, match=r"unknown setting data\.bach_size; the section data has"):
        check(config, devices=1)
    config = defaults()
    with config.ignore_type():
        config.optim.base_lr = "big"
    with pytest.raises(ConfigError, match=r"optim\.base_lr is 'big'.*expected float"):
        check(config, devices=1)
    config = defaults()
    with config.ignore_type():
        config.augment.mean = "grey"
    with pytest.raises(ConfigError, match=r"augment\.mean is 'grey'.*expected tuple"):
        check(config, devices=1)
    with pytest.raises(AttributeError, match="batch_size"):
        defaults().data.bach_size = 3


@pytest.mark.usefixtures("x64")
def test_float64_is_accepted_where_jax_has_it():
    config = defaults()
    config.model.dtype = "float64"
    check(config, devices=1)


@pytest.mark.parametrize("changes", [{"eval_resize": 0}, {"eval_crop": 0}, {"eval_resize": 224}])
def test_evaluation_may_leave_out_resizing_or_cropping(changes):
    config = defaults()
    config.data.update(changes)
    check(config, devices=1)


def test_the_host_cuts_no_images_that_stay_on_the_devices():
    config = defaults()
    config.data.cache, config.data.crop_on = "device", "host"
    with pytest.raises(ConfigError, match=r"cache is device and data\.crop_on host"):
        check(config, devices=1)
    config.data.cache = "host"
    check(config, devices=1)


ABSURD = (
    *(None, True, "", "x", b"x", object(), {}, {"x": 1}),
    *(-1, 0, 1, 7, 2**31, 10**400, -0.5, 0.5, 2.0, 1e300, math.inf, math.nan),
    *((), (None,), (True,), ("x",), (0,), (0.5,), (-1,), (1, 2, 3), (2.0, 1.0), (math.nan,) * 3),
    *(((),), ((1,),), ((2, 16, 0.5, 1.0),)),
)


def settings(config, prefix=""):
    """Every section and every setting, but the method's name."""
    for key, value in config.items():
        if f"{prefix}{key}" != "method.name":
            yield f"{prefix}{key}"
        if isinstance(value, ConfigDict):
            yield from settings(value, f"{prefix}{key}.")


@pytest.mark.parametrize("method", METHODS)
def test_any_value_of_any_setting_is_refused_by_its_name_or_builds_a_run(method):
    base, source = tiny_config(method), open_source("digits", "", "train")
    base.model.prototypes = 40
    fitting = {"queue_length": 32, "freeze_prototypes_steps": 2}
    fitting |= {"negative_prototypes": 8, "granularity": (1,), "warmup_epochs": 0}
    base.method.update({key: value for key, value in fitting.items() if key in base.method})
    build(base, source)
    for path in settings(base):
        if method != "swav" and not path.startswith("method"):
            continue  # they are the same for all
        *sections, key = path.split(".")
        refused = 0
        for value in ABSURD:
            config = base.to_dict()
            (config[sections[0]] if sections else config)[key] = value
            try:
                run = build(ConfigDict(config), None if path.startswith("data.") else source)
            except (ConfigError, DataError) as error:
                assert key in str(error) and "\n" not in str(error), (path, value, error)
                refused += 1
                continue
            assert np.isfinite(run.schedule(jnp.int32(0)))
            if path.startswith("augment.") and isinstance(value, tuple):
                batch = batch_shapes(run.config.data.crops, rows=2)
                jax.eval_shape(partial(run.augment, epoch=0), batch)
        assert refused > 10, path


def test_an_evaluation_of_images_by_themselves_is_warned_of():
    config = defaults()
    config.data.train, config.data.test = "train+test", "test"
    assert not split_warnings(config)
    config.eval.train = "test"
    assert "data.test and eval.train are both 'test'" in split_warnings(config)[0]
    config.eval.train, config.data.test = "", "train+test"
    assert "data.test and data.train are both 'train+test'" in split_warnings(config)[0]


def test_durations_in_epochs_that_have_no_effect_are_warned_of():
    config = defaults()
    assert not duration_warnings(config)
    config.method.freeze_prototypes_epochs = 2.0
    assert duration_warnings(config) == [
        "method.freeze_prototypes_steps 313 overrides method.freeze_prototypes_epochs 2."
    ]
    config.method.freeze_prototypes_steps = None
    assert not duration_warnings(config)
    assert not duration_warnings(defaults("simclr"))


@pytest.mark.parametrize(
    ("section", "key", "value"), [("model", "width", 8), ("train", "remat", "stage")]
)
def test_what_is_for_resnets_is_refused_for_others(section, key, value):
    config = defaults("deepcluster")
    config.model.arch = "alexnet_sobel"
    config[section][key] = value
    with pytest.raises(ConfigError, match=rf"{section}\.{key} {value} is for ResNets"):
        check(config, devices=1)
