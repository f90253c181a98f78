import json

import jax
import numpy as np
import pytest
from images import smooth
from tiny import tiny_swav

from swav_jax import train
from swav_jax.data.sources import open_source
from swav_jax.data.sources.source import DataError
from swav_jax.evals.labelled import renumber_labels


def folder(top, split, classes, images=2):
    for i, name in enumerate(classes):
        (top / split / name).mkdir(parents=True)
        for n in range(images):
            smooth(10 * i + n, 20, 20).save(top / split / name / f"{n}.png")


def test_classes_of_test_images_are_found_by_name(tmp_path):
    folder(tmp_path, "train", ["ant", "bee", "cat"])
    folder(tmp_path, "test", ["ant", "cat"])
    train_images, test = (open_source("folder", str(tmp_path), s) for s in ("train", "test"))
    assert test.labels.tolist() == [0, 0, 1, 1]
    assert renumber_labels(train_images, test).tolist() == [0, 0, 2, 2]
    folder(tmp_path, "other", ["ant", "dog"])
    with pytest.raises(DataError, match="class 'dog'; the training classes are ant, bee, cat"):
        renumber_labels(train_images, open_source("folder", str(tmp_path), "other"))


def test_an_unreadable_image_has_no_vote(tmp_path):
    folder(tmp_path, "train", ["ant", "bee"], images=20)
    folder(tmp_path, "test", ["ant", "bee"], images=3)
    (tmp_path / "train" / "ant" / "0.png").write_bytes(b"")
    config = tiny_swav()
    config.data.name, config.data.data_dir, config.data.test = "folder", str(tmp_path), "test"
    config.data.max_bad_fraction = 0.1
    config.train.steps = 2
    train.pretrain(config, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "results.json").read_text())["knn"]
    assert found["k"] == 20 and np.isfinite(found["top1"])
    assert jax.device_count() == 8
