import jax
import numpy as np
import pytest
from images import smooth
from tiny import tiny_config, tiny_swav

from swav_jax import resumption, train
from swav_jax.checkpoints.store import Checkpoints
from swav_jax.data import resize
from swav_jax.run import build
from swav_jax.step import draw_state, state_shapes
from swav_jax.workdir import OtherRun


def test_crops_that_something_else_cuts_are_said(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(resumption, "warn", told.append)
    config = tiny_swav()
    here = resize.library()
    with Checkpoints(tmp_path) as checkpoints:
        for step, (cache, then, said) in enumerate(
            (
                ("device", {"crops_by": "the devices"}, ""),
                ("device", {"crops_by": here}, f"by {here} before, and are by the devices now"),
                ("none", {"crops_by": here}, ""),
                ("none", {"crops_by": "Pillow 1.0"}, f"by Pillow 1.0 before, and are by {here} "),
                ("none", {}, "by TensorFlow before"),
            )
        ):
            config.data.cache = cache
            run = build(config, devices=jax.devices()[:1])
            with jax.set_mesh(run.mesh):
                shapes = state_shapes(run)
                state = draw_state(run, shapes)
                checkpoints.save(step, state, {"config": {}, "images": 1500} | then)
                resumption.resume(run, shapes, checkpoints)
            assert len(told) == bool(said) and all(said in warning for warning in told)
            told.clear()


@pytest.mark.parametrize("method", ["simclr", "sela_v2"])  # with state of each image and without
def test_another_number_of_images_is_refused_by_both_numbers(tmp_path, method):
    config = tiny_config(method)
    for split, images in (("train", 1500), ("test", 297)):
        config.data.train = split
        run = build(config, devices=jax.devices()[:1])
        with jax.set_mesh(run.mesh), Checkpoints(tmp_path) as checkpoints:
            shapes = state_shapes(run)
            if images == 1500:
                checkpoints.save(1, draw_state(run, shapes), {"config": {}, "images": images})
                continue
            with pytest.raises(
                OtherRun, match=r"begin with these training images \(1500 .* there, 297 here\)"
            ) as no:
                resumption.resume(run, shapes, checkpoints)
            assert no.value.changed == "1500 training images there, 297 here"


def test_other_names_of_the_images_are_refused_and_another_place_is_not(tmp_path, monkeypatch):
    images = tmp_path / "images"
    for label in ("0", "1"):
        (images / label).mkdir(parents=True)
    for number in range(32):
        smooth(number, 16, 16).save(images / f"{number % 2}" / f"{number:02}.png")
    config, told = tiny_config("simclr"), []
    config.data.name, config.data.data_dir = "folder", str(images)
    config.train.steps = 1
    monkeypatch.setattr(train, "check_same", told.append)
    train.pretrain(config, tmp_path / "run")
    (images / "1" / "07.png").rename(images / "1" / "32.png")
    with pytest.raises(OtherRun, match=r"as many training images, but of other names") as no:
        train.pretrain(config, tmp_path / "run")
    assert no.value.changed in str(no.value)
    assert told[0] != told[1]  # processes that see the two lists of 32 files are not the same

    (images / "1" / "32.png").rename(images / "1" / "07.png")
    moved = images.rename(tmp_path / "moved")
    config.data.data_dir = str(moved)
    train.pretrain(config, tmp_path / "run")
    run = build(config)
    resumption.check_images(run, {"images": 32})  # as versions before said it
    with pytest.raises(OtherRun, match="16 training images there, 32 here"):
        resumption.check_images(run, {"images": 16})


def test_other_classes_are_refused_where_they_are_learned(tmp_path):
    config, images = tiny_config("supervised"), tmp_path / "images.npz"
    config.data.name, config.data.data_dir = "npz", str(images)
    config.model.prototypes = 2

    def opened(*names):
        arrays = {"train": np.zeros((32, 16, 16, 3), np.uint8), "train_labels": np.arange(32) % 2}
        np.savez(images, **arrays, class_names=np.array(names))
        return build(config)

    began = resumption.images_of(opened("cat", "dog", "owl"))
    resumption.check_images(opened("cat", "dog", "owl"), began)
    with pytest.raises(OtherRun, match=r"\(class 1 is dog there, owl here\)"):
        resumption.check_images(opened("cat", "owl", "dog"), began)
    with pytest.raises(OtherRun, match=r"\(class 2 is owl there, none here\)"):
        resumption.check_images(opened("cat", "dog"), began)
