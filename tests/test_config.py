import ast
import importlib.util
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from swav_jax import optim
from swav_jax.config import ConfigError, defaults, in_steps, profiled_steps, sizes
from swav_jax.limits import check
from swav_jax.run import make_method

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_is_sound_and_says_how_to_run_it(path):
    module = load(path)
    config = module.get_config()
    if config.data.name == "folder":
        config.data.data_dir = "/my/images"  # which only its owner can name
    check(config, devices=8)
    assert f"python main.py --config=configs/{path.name}" in module.__doc__
    assert "TODO" not in module.__doc__
    images = {"digits": 1500, "folder": 10_000, "tfds:cifar10": 50_000}
    share = 5 if config.data.train == "train[:20%]" else 1
    run = sizes(config, images.get(config.data.name, 1_281_167) // share)
    make_method(in_steps(config, run.steps_per_epoch)).check(run)
    optim.schedule(config.optim, steps_per_epoch=run.steps_per_epoch, total_steps=run.total_steps)


def test_settings_that_files_have_in_common_are_shared():
    """Four in a row in two files belong in `configs/shared`, or one file imports the other."""
    homes = {}
    for path in sorted(CONFIGS[0].parent.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            body = function.body if isinstance(function, ast.FunctionDef) else []
            settings = [ast.unparse(line) for line in body if isinstance(line, ast.Assign)]
            for repeated in zip(*(settings[i:] for i in range(4)), strict=False):
                assert homes.setdefault(repeated, path) == path, repeated


BIG = {
    "data.batch_size": 4096,
    "data.crops": ((2, 224, 0.14, 1.0), (6, 96, 0.05, 0.14)),
    "model.arch": "resnet50",
    "model.bn_groups": 8,
    "model.head_hidden": 2048,
    "model.dim": 128,
    "model.prototypes": 3000,
    "method.temperature": 0.1,
    "optim.name": "larc",
    "optim.base_lr": 4.8,
    "optim.final_lr": 0.0048,
    "optim.start_lr": 0.3,
    "optim.warmup_epochs": 10.0,
    "optim.weight_decay": 1e-6,
    "optim.momentum": 0.9,
}
SWAV = BIG | {
    "method.epsilon": 0.05,
    "method.sinkhorn_iterations": 3,
    "method.freeze_prototypes_steps": 313,
    "method.queue_length": 0,
}
SMALL_BATCH = SWAV | {
    "data.batch_size": 256,
    "model.bn_groups": 1,
    "optim.base_lr": 0.6,
    "optim.final_lr": 0.0006,
    "optim.warmup_epochs": 0.0,
    "method.freeze_prototypes_steps": 5005,
    "method.queue_length": 3840,
    "method.queue_start_epoch": 15,
}
WIDE = SWAV | {
    "data.crops": ((2, 224, 0.14, 1.0), (4, 96, 0.05, 0.14)),
    "model.head_hidden": 8192,
    "train.epochs": 400,
}
MOMENTUM_CONTRAST = {
    "data.batch_size": 256,
    "data.crops": ((2, 224, 0.2, 1.0),),
    "augment.std": (0.229, 0.224, 0.225),
    "model.arch": "resnet50",
    "model.dim": 128,
    "method.momentum": 0.999,
    "method.temperature": 0.2,
    "optim.name": "sgd",
    "optim.base_lr": 0.03,
    "optim.warmup_epochs": 0.0,
    "optim.weight_decay": 1e-4,
    "optim.momentum": 0.9,
}
V2 = {
    "model.head_hidden": 2048,
    "model.head_layers": 2,
    "model.head_norm": False,
    "augment.blur": 0.5,
    "augment.hue": 0.1,
    "optim.schedule": "cosine_by_epoch",
}
PCL = MOMENTUM_CONTRAST | {
    "model.prototypes": 25_000,
    "method.granularity": (1, 2, 4),
    "method.queue_length": 16_384,
    "method.negative_prototypes": 16_384,
    "method.warmup_epochs": 20,
    "method.kmeans_iterations": 20,
    "method.kmeans_restarts": 5,
    "train.epochs": 200,
}
SIMCLR = {
    "data.batch_size": 4096,
    "data.crops": ((2, 224, 0.08, 1.0),),
    "augment.jitter": 0.8,
    "augment.blur": 0.5,
    "model.arch": "resnet50",
    "model.dim": 128,
    "method.temperature": 0.1,
    "optim.name": "lars",
    "optim.base_lr": 4.8,
    "optim.warmup_epochs": 10.0,
    "optim.weight_decay": 1e-6,
    "optim.momentum": 0.9,
}
DEEPCLUSTER = {
    "data.batch_size": 256,
    "augment.std": (0.229, 0.224, 0.225),
    "model.prototypes": 10_000,
    "method.components": 256,
    "method.kmeans_iterations": 20,
    "optim.name": "sgd",
    "optim.base_lr": 0.05,
    "optim.schedule": "drops",
    "optim.drop_epochs": (),
    "optim.weight_decay": 1e-5,
    "optim.momentum": 0.9,
    "train.epochs": 200,
}
PUBLISHED = {
    **{f"swav_imagenet_{n}ep": SWAV | {"train.epochs": n} for n in (100, 200, 400, 800)},
    **{f"swav_imagenet_{n}ep_bs256": SMALL_BATCH | {"train.epochs": n} for n in (200, 400)},
    "swav_imagenet_400ep_2x224": SWAV | {"data.crops": ((2, 224, 0.08, 1.0),), "train.epochs": 400},
    "swav_imagenet_rn50w2_400ep": WIDE | {"model.arch": "resnet50w2", "model.bn_groups": 16},
    "swav_imagenet_rn50w4_400ep": WIDE
    | {
        "model.arch": "resnet50w4",
        "data.batch_size": 2560,
        "data.crops": ((2, 224, 0.08, 1.0), (4, 96, 0.08, 0.14)),
        "method.queue_length": 2560,
        "method.queue_start_epoch": 0,
    },
    "deepcluster_v2_imagenet_800ep": BIG | {"model.prototype_heads": 3, "train.epochs": 800},
    "deepcluster_v2_imagenet_400ep": BIG
    | {
        "data.crops": ((2, 160, 0.08, 1.0), (4, 96, 0.05, 0.14)),
        "model.prototype_heads": 3,
        "train.epochs": 400,
    },
    "deepcluster_v2_imagenet_400ep_2x224": BIG
    | {
        "data.crops": ((2, 224, 0.08, 1.0),),
        "model.prototype_heads": 3,
        "train.epochs": 400,
    },
    "pcl_v1_imagenet_200ep": PCL
    | {
        "model.head_hidden": 0,
        "augment.blur": 0.0,
        "optim.schedule": "drops",
        "optim.drop_epochs": (120, 160),
    },
    "pcl_v2_imagenet_200ep": PCL | V2,
    **{
        f"moco_v2_imagenet_{n}ep": MOMENTUM_CONTRAST
        | V2
        | {"method.queue_length": 65_536, "train.epochs": n}
        for n in (200, 800)
    },
    **{f"simclr_imagenet_{n}ep": SIMCLR | {"train.epochs": n} for n in (100, 200, 400, 800, 1000)},
    "deepcluster_imagenet_alexnet": DEEPCLUSTER | {"model.arch": "alexnet_sobel"},
    "deepcluster_imagenet_vgg16": DEEPCLUSTER | {"model.arch": "vgg16_sobel"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings_are_those_published(name):
    config = load(CONFIGS[0].parent / f"{name}.py").get_config()
    expected = PUBLISHED[name]
    if name == "swav_imagenet_rn50w4_400ep":
        expected = {k: v for k, v in expected.items() if k != "model.bn_groups"}  # of 40 images
    for key, value in expected.items():
        section, setting = key.split(".")
        assert config[section][setting] == value, key


def test_more_steps_than_can_be_counted_are_refused():
    config = defaults()
    config.data.batch_size, config.train.epochs = 1, 10**6
    with pytest.raises(ConfigError, match=r"train\.epochs 1000000 of 10000 steps"):
        sizes(config, 10_000)


def swav(**changes):
    config = defaults()
    config.data.batch_size = 64
    config.method.update(changes)
    return make_method(config), sizes(config, 10_000)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"queue_length": 100}, "queue_length 100 is not a multiple of data.batch_size 64.* 128"),
        ({"assignment_crops": (0, 8)}, "must name crops from 0 to 7"),
        ({"assignment_crops": ()}, "must name crops"),
        ({"freeze_prototypes_steps": 10**6}, "would never move"),
    ],
)
def test_swav_refuses_what_cannot_work(changes, complaint):
    method, run = swav(**changes)
    with pytest.raises(ValueError, match=complaint):
        method.check(run)


def test_swav_warns_of_what_gets_stuck():
    method, run = swav()
    assert any("ln K" in warning for warning in method.check(run))
    method, run = swav(queue_length=1024)
    assert not method.check(run)
    method, run = swav(queue_length=1024, epsilon=0.01)
    assert any("float32" in warning for warning in method.check(run))
    method, run = swav(queue_length=1024)
    assert any("exceeds the 100 images" in w for w in method.check(run._replace(size=100)))


def test_sizes_follow_from_data_and_config():
    config = defaults()
    config.data.batch_size, config.train.epochs = 64, 3
    assert sizes(config, 1000)._asdict() == {
        "size": 1000,
        "batch_size": 64,
        "views": 8,
        "steps_per_epoch": 15,
        "total_steps": 45,
        "data_devices": 1,
        "epochs_steps": 45,
        "parts": 1,
    }
    config.train.steps = 7
    assert sizes(config, 1000)[4:] == (7, 1, 45, 1)
    with pytest.raises(ConfigError, match="exceeds the 63 training images"):
        sizes(config, 63)


def test_profiled_steps_are_a_range():
    assert profiled_steps("") == range(0)
    assert profiled_steps("10:15") == range(10, 15)
    for text in ("10", "5:5", "7:3", "a:b", "-1:3"):
        with pytest.raises(ValueError, match="like 10:15"):
            profiled_steps(text)


@pytest.mark.parametrize(
    ("epochs", "steps", "taken"), [(2.0, None, 24), (0.4, None, 5), (0.01, None, 1), (0.0, None, 0)]
)
def test_a_duration_is_in_epochs_unless_it_is_set_in_steps(epochs, steps, taken):
    config = defaults()
    config.method.freeze_prototypes_epochs = epochs
    assert in_steps(config, 12).method.freeze_prototypes_steps == 313
    config.method.freeze_prototypes_steps = None
    check(config, devices=1)
    assert in_steps(config, 12).method.freeze_prototypes_steps == taken
    assert config.method.freeze_prototypes_steps is None


def test_flags_set_a_duration_in_steps_that_the_config_left_to_epochs():
    config, argv = load(CONFIGS[0].parent / "quickstart.py").get_config(), ["main.py"]
    argv += ["--config.method.freeze_prototypes_steps=7", "--config.train.log_every_epochs=0.5"]
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    values(argv)
    flagged = in_steps(config, 93)
    assert (flagged.method.freeze_prototypes_steps, flagged.train.log_every_steps) == (7, 46)
