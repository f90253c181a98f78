from contextlib import nullcontext

import numpy as np
import pytest
from absl import logging
from PIL import Image
from tiny import tiny_config, tiny_swav

from swav_jax.config import ConfigError
from swav_jax.images import on_evaluated_images
from swav_jax.run import build


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


def test_a_folder_of_evaluations_is_looked_through_once(monkeypatch):
    asked = []

    def on_evaluated(config):
        asked.append(config)
        return on_evaluated_images(config)

    monkeypatch.setattr("swav_jax.run.on_evaluated_images", on_evaluated)
    run = build(tiny_swav())
    assert run.train_images and run.test_images is None and len(asked) == 1
