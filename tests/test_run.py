from contextlib import nullcontext

import numpy as np
import pytest
from absl import logging
from images import smooth
from PIL import Image
from tiny import tiny_config, tiny_swav

from swav_jax.config import ConfigError
from swav_jax.run import build, on_evaluated_images, on_own_folder


@pytest.mark.parametrize(
    ("crop", "eval_resize", "eval_crop", "complaint"),
    [
        (16, 16, 16, "alexnet_sobel: images of 16 pixels are too small for this network: try 224"),
        (224, 64, 64, "alexnet_sobel takes images of one size, .* have 64, 224 pixels"),
        (224, 64, 0, "alexnet_sobel takes images of one size, .* have 64, 224 pixels"),
        (224, 0, 64, "alexnet_sobel takes images of one size, .* have 64, 224 pixels"),
        (224, 224, 0, None),
        (224, 0, 0, None),
    ],
)
def test_sizes_that_a_network_cannot_take_are_refused(crop, eval_resize, eval_crop, complaint):
    config = tiny_config("deepcluster")
    config.model.arch = "alexnet_sobel"
    config.data.crops = ((1, crop, 0.4, 1.0),)
    config.data.eval_resize, config.data.eval_crop = eval_resize, eval_crop
    with pytest.raises(ConfigError, match=complaint) if complaint else nullcontext():
        build(config)


def test_methods_receive_durations_in_steps():
    config = tiny_swav()
    config.method.freeze_prototypes_epochs, config.method.freeze_prototypes_steps = 0.5, None
    run = build(config)
    assert run.sizes.steps_per_epoch == 93
    assert run.method.freeze_prototypes_steps == run.config.method.freeze_prototypes_steps == 46


def test_a_recipe_for_a_data_set_takes_a_folder_of_images_by_its_name_alone(tmp_path):
    config = tiny_config()
    config.data.name, config.data.train, config.data.test = "tfds:photos", "train[:20%]", "test"
    config.data.data_dir, config.eval.train = str(tmp_path), "train[20%:]"
    assert on_own_folder(config) is config  # an empty folder: the data set is not there
    (tmp_path / "train" / "ant").mkdir(parents=True)
    smooth(0, 20, 20).save(tmp_path / "train" / "ant" / "0.png")
    found = on_own_folder(config)
    data = found.data
    assert (data.name, data.train, data.test) == ("folder", "train", "test")
    assert found.eval.train == "train"
    assert config.data.name == "tfds:photos"  # as it was given

    (tmp_path / "photos" / "1.0.0").mkdir(parents=True)
    (tmp_path / "photos" / "1.0.0" / "dataset_info.json").touch()
    assert on_own_folder(config) is config  # images lie beside data sets that TFDS has prepared


def test_evaluations_name_their_own_images(tmp_path):
    smooth(0, 9, 9).save(tmp_path / "a.png")
    config = tiny_config()
    config.data.name, config.data.data_dir = "tfds:photos", "prepared"
    config.data.train, config.data.test, config.data.label_key = "train[:20%]", "validation", "kind"
    assert on_evaluated_images(config) == config

    config.eval.train, config.eval.test = "train", "test[:9]"
    data = on_evaluated_images(config).data
    assert (data.train, data.test, data.name) == ("train", "test[:9]", "tfds:photos")
    assert data.label_key == "kind"

    config.eval.train, config.eval.data_dir = "", str(tmp_path)
    data = on_evaluated_images(config).data
    assert (data.name, data.data_dir) == ("folder", str(tmp_path))
    assert (data.train, data.test, data.label_key) == ("train", "test[:9]", "")
    assert data.eval_crop == 16

    config.eval.data_name, config.data.eval_resize, config.data.eval_crop = "tfds:birds", 0, 0
    data = on_evaluated_images(config).data
    assert (data.name, data.eval_resize, data.eval_crop) == ("tfds:birds", 16, 16)


def test_all_splits_are_shown_alike_and_what_is_not_used_is_said(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: said.append(message % args))
    config = tiny_config()
    config.data.name, config.data.data_dir, config.data.batch_size = "folder", str(tmp_path), 8
    config.data.test, config.eval.train, config.data.background = "test", "voters", "black"
    config.method.freeze_prototypes_steps = 0
    for split, largest in (("train", 4000), ("test", 200), ("voters", 100)):
        (tmp_path / split).mkdir()
        for n in range(8):
            values = np.linspace(0, largest, 400, dtype=np.uint16).reshape(20, 20)
            Image.fromarray(values).save(tmp_path / split / f"{n}.png")
    (tmp_path / "train" / "notes.txt").write_text("text")
    run = build(config)
    for source in (run.source, run.train_images.source, run.test_images.source):
        assert source.pixels.white_level == 4095 and source.pixels.background == "black"
    assert len([line for line in said if "white is 4095" in line]) == 1
    assert len([line for line in said if "no image (1 .txt)" in line]) == 1
