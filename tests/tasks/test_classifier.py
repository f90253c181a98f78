"""The tasks that train a classifier: linear, semisup, finetune."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow_datasets as tfds
from images import smooth
from prepared import labelled, prepare
from processes import assert_same_state, metrics, saved
from tiny import tiny_swav

from swav_jax import train
from swav_jax.config import ConfigError
from swav_jax.data.sources.source import DataError
from swav_jax.monitor.watch import Watch
from swav_jax.runtime.interruption import INTERRUPTED
from swav_jax.tasks.finetune import finetune_task
from swav_jax.tasks.knn import knn_task
from swav_jax.tasks.linear import linear_task
from swav_jax.tasks.semisup import semisup_task
from swav_jax.trained import settings_of

BACKBONE = ("params/backbone", "batch_stats/backbone")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A workdir whose network was trained for two steps."""
    workdir = tmp_path_factory.mktemp("pretrained")
    config = tiny_swav()
    config.data.test, config.train.steps = "test", 2
    train.pretrain(config, workdir)
    return workdir


@pytest.fixture
def workdir(pretrained, tmp_path):
    return shutil.copytree(pretrained, tmp_path / "run")


def short(workdir):
    """The run's settings, for short evaluations."""
    config = settings_of(workdir)
    config.eval.linear_protocol = "sgd"
    config.eval.linear_epochs = config.eval.semisup_epochs = config.eval.finetune_epochs = 2
    return config


def results(workdir, task):
    return json.loads((workdir / "results.json").read_text())[task]


def test_linear_killed_and_started_again_equals_one_in_one_go(workdir, tmp_path, monkeypatch):
    config = short(workdir)
    whole = shutil.copytree(workdir, tmp_path / "whole")
    linear_task(config, whole)

    after = Watch.after

    def interrupted_in_the_second_epoch(watch, step, state, values):
        after(watch, step, state, values)
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(Watch, "after", interrupted_in_the_second_epoch)
        linear_task(config, workdir)
    assert ended.value.code == INTERRUPTED
    assert "linear" not in json.loads((workdir / "results.json").read_text())
    linear_task(config, workdir)

    assert_same_state(saved(workdir / "linear"), saved(whole / "linear"))
    assert metrics(workdir / "linear") == metrics(whole / "linear")
    assert results(workdir, "linear") == results(whole, "linear")
    assert_same_state(saved(workdir / "linear", BACKBONE), saved(workdir, BACKBONE))

    found = results(workdir, "linear")
    curve = [line["classify_top1"] for line in metrics(whole / "linear") if "classify_top1" in line]
    assert found["top1"] == curve[-1] and found["best_top1"] == max(curve)
    assert found["best_epoch"] == 1 + int(np.argmax(curve)) and len(curve) == 2
    assert (found["train_images"], found["test_images"]) == (1500, 297)
    assert found["protocol"].startswith("2 epochs of SGD, lr 0.3, frozen backbone")
    lrs = {line["lr"] for line in metrics(whole / "linear") if "lr" in line}
    np.testing.assert_allclose(sorted(lrs), [0.15, 0.3], rtol=1e-6)

    config.eval.linear_lr, config.eval.linear_protocol = 0.1, "both"
    with pytest.raises(ConfigError, match=r"optim.base_lr: 0.3 there, 0.1 here.* rename that"):
        linear_task(config, workdir)
    assert results(workdir, "linear") == found
    config.eval.linear_lr, config.eval.linear_protocol = 0.3, "sgd"
    moved = workdir.rename(workdir.with_name("moved"))
    linear_task(config, moved)  # goes on with the same classifier
    assert metrics(moved / "linear") == metrics(whole / "linear")


def test_both_protocols_and_logistic_regression_alone(workdir):
    config = short(workdir)
    config.eval.linear_epochs, config.eval.linear_protocol = 1, "fast"
    linear_task(config, workdir)
    fast = results(workdir, "linear")
    assert fast["fast_top1"] > 50 and fast["random_init_fast_top1"] > 50
    assert fast["fast_protocol"].startswith("logistic regression")
    assert "top1" not in fast and not (workdir / "linear").exists()

    config.eval.linear_protocol = "both"
    linear_task(config, workdir)
    both = results(workdir, "linear")
    assert both["fast_top1"] == fast["fast_top1"] and both["top1"] > 0
    assert both["protocol"].startswith("1 epochs of SGD")


def test_fine_tuning_moves_the_backbone_at_its_own_rate(workdir):
    finetune_task(short(workdir), workdir)
    found = results(workdir, "finetune")
    assert found["train_images"] == 1500
    assert 0 <= found["top1"] <= found["best_top1"] <= found["top5"] <= 100
    settings = json.loads((workdir / "finetune" / "config.json").read_text())
    assert settings["optim"]["base_lr"] == 0.2
    assert settings["method"]["backbone_lr_factor"] == 0.01 / 0.2
    before, after = saved(workdir, BACKBONE), saved(workdir / "finetune", BACKBONE)
    assert all((before[name] != after[name]).any() for name in before)


@pytest.fixture
def photos(tmp_path):
    """A folder of two classes with eight images each to train on, and four to test."""
    for split, images in (("train", 8), ("test", 2)):
        for label in ("cat", "dog"):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(images):
                smooth(number, 20, 30).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_a_list_names_the_labelled_images(workdir, photos, tmp_path):
    config = short(workdir)
    config.eval.data_dir = str(photos)
    (tmp_path / "some.txt").write_text("".join(f"cat/{i}.png\ndog/{i}.png\n" for i in range(4)))
    config.eval.semisup_list = str(tmp_path / "some.txt")
    semisup_task(config, workdir)
    assert results(workdir, "semisup")["list_some_train_images"] == 8
    folders = [path.name for path in workdir.glob("semisup*")]

    (tmp_path / "some.txt").write_text("".join(f"cat/{i}.png\ndog/{i}.png\n" for i in range(4, 8)))
    semisup_task(config, workdir)
    assert len(folders) == 1 and len([*workdir.glob("semisup*")]) == 2  # each keeps its classifier


def test_the_published_images_are_those_of_one_percent_of_imagenet(workdir, tmp_path):
    label = tfds.features.ClassLabel(names=["a", "b", "c"])
    features = {"image": tfds.features.Image(shape=(None, None, 3)), "label": label}
    many, few = labelled(*(0, 1, 2) * 9, size=16), labelled(*(0, 1, 1, 2) * 2, size=16)
    for name, shards in (("imagenet2012", [many] * 3), ("imagenet2012_subset/1pct", [few])):
        version = str(tfds.builder(name, data_dir=tmp_path).version)
        dataset = name.partition("/")[0]
        splits = {"train": shards, "validation": [labelled(0, 1, 2)]}
        keys = {"supervised_keys": ("image", "label")}
        prepare(tmp_path / "unsorted", dataset, features, splits, version=version, **keys)
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / "unsorted" / dataset / version).rename(tmp_path / name / version)

    config = short(workdir)
    config.eval.data_name, config.eval.data_dir = "tfds:imagenet2012", str(tmp_path)
    config.eval.train, config.eval.test, config.eval.semisup_epochs = "train", "validation", 1
    semisup_task(config, workdir)
    found = results(workdir, "semisup")
    assert found["1pct_train_images"] == 8
    assert found["1pct_protocol"].startswith("the published images, 1 epochs")
    (folder,) = workdir.glob("semisup_1_*")  # of images that are not the run's own
    settings = json.loads((folder / "config.json").read_text())
    assert settings["optim"]["base_lr"] == 5 * 8 / 256
    assert settings["method"]["backbone_lr_factor"] == 0.02 / 5
    assert found["10pct_train_images"] == 9  # drawn: there is no such set
    assert found["10pct_protocol"].startswith("10 % of each class")


def test_images_without_labels_or_too_few_are_refused(workdir, photos):
    config = short(workdir)
    config.eval.data_dir = str(photos)
    config.eval.train = "train/cat"
    with pytest.raises(DataError, match="--task=linear: the training images have no labels"):
        linear_task(config, workdir)
    config.eval.train = "train"
    (photos / "few.txt").write_text("cat/0.png\ndog/1.png\n")
    config.eval.semisup_list = str(photos / "few.txt")
    with pytest.raises(ConfigError, match=r"2 images with labels make batches of 2, .* 8 devices"):
        semisup_task(config, workdir)
    for contents, complaint in ((b"\n", "names no image"), (b"\xff.png", "is no text")):
        (photos / "few.txt").write_bytes(contents)
        with pytest.raises(DataError, match=rf"few\.txt {complaint}"):
            semisup_task(config, workdir)
    (photos / "few.txt").write_text("".join(f"cat/{i}.png\n" for i in range(8)))
    with pytest.raises(DataError, match=r"few\.txt has nothing to learn: .* of one class"):
        semisup_task(config, workdir)
    (photos / "train" / "cat").rename(photos / "train" / "cow")
    (photos / "train" / "dog").rename(photos / "train" / "ewe")
    with pytest.raises(DataError, match=r"they are cat \(\d+\), dog \(\d+\), training images cow"):
        knn_task(config, workdir)
    (photos / "train" / "ewe").rename(photos / "train" / "dog")
    (photos / "train" / "hen").mkdir()
    smooth(1, 20, 30).save(photos / "train" / "hen" / "1.png")
    (photos / "few.txt").write_text("hen/1.png\ncow/1.png\n")
    with pytest.raises(DataError, match=r"few\.txt names no image of a class that a test image"):
        semisup_task(config, workdir)
    shutil.rmtree(photos / "test")
    with pytest.raises(DataError, match="name their folder or split by"):
        finetune_task(config, workdir)


def test_test_images_that_cannot_be_read_are_said_before_training(workdir, photos):
    config = short(workdir)
    config.eval.data_dir, config.data.max_bad_fraction = str(photos), 1.0
    for path in (photos / "test").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no test image with a label can be read, of 4 images"):
        finetune_task(config, workdir)
    (folder,) = workdir.glob("finetune*")
    assert not [*(folder / "checkpoints").iterdir()] and not (folder / "metrics.jsonl").exists()
