import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from images import save_damaged, smooth
from methods.short_runs import assert_resumes_exactly
from tiny import tiny_swav

from swav_jax import sharding
from swav_jax.data import canvases
from swav_jax.data.batches import train_batches
from swav_jax.data.boxes import crop_boxes
from swav_jax.data.canvases import canvas_side, lay_out, tiles
from swav_jax.data.crops import cut_all
from swav_jax.data.sources import open_source
from swav_jax.run import build, cut_batch, training_batches

CROPS = tiny_swav().data.crops  # 2x16, 2x8
SWAV_CROPS = ((2, 224, 0.14, 1.0), (6, 96, 0.05, 0.14))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Twenty-four images, some of which do not fit onto a canvas, and four unreadable ones."""
    monkeypatch.setattr(canvases, "LARGEST", 45)
    save_damaged(tmp_path)  # among them one of 20,000 x 10 pixels
    for number in range(7):
        smooth(number, 30 + 3 * number, 44 - 3 * number).save(tmp_path / f"more{number}.jpg")
    return open_source("folder", str(tmp_path), "train")


def cropped_on(device, source, devices=None, **settings):
    config = tiny_swav()
    config.data.crop_on, config.data.batch_size, config.data.max_bad_fraction = device, 8, 0.3
    config.data.cache = "none"
    config.update_from_flattened_dict(settings)
    return build(config, source, devices)


def cut(run, batch):
    crops = run.config.data.crops
    return jax.jit(lambda placed: cut_batch(placed, crops, None))(
        sharding.put_batch(run.mesh, batch)
    )


def test_crops_are_those_of_the_host_from_any_step(photos):
    run, host = cropped_on("device", photos), cropped_on("host", photos)
    assert run.canvas == 45 and host.canvas is None
    for step in (0, 7):
        ours, theirs = training_batches(run, step), training_batches(host, step)
        for _ in range(4):
            batch, other = next(ours), next(theirs)
            crops = cut(run, batch).crops
            np.testing.assert_array_equal(batch.index, other.index)
            np.testing.assert_array_equal(batch.sample, other.sample)
            tiled = (batch.boxes == tiles(CROPS, 45)).all(axis=(1, 2))
            for kind, views in zip(crops, other.crops, strict=True):
                assert np.abs(np.asarray(kind, int) - views).max() <= 2
                np.testing.assert_array_equal(kind[tiled], views[tiled])
        assert len(photos.unreadable) == 4


def test_any_number_of_devices_and_processes_gets_the_same(photos):
    run, alone = cropped_on("device", photos), cropped_on("device", photos, jax.devices()[:1])
    batch = next(training_batches(run, 0))
    jax.tree.map(np.testing.assert_array_equal, cut(run, batch), cut(alone, batch))
    settings = {"seed": 0, "max_bad_fraction": 0.3, "canvas": 45}
    parts = [
        next(train_batches(photos, CROPS, 8, process=process, processes=2, **settings))
        for process in range(2)
    ]
    jax.tree.map(lambda a, *b: np.testing.assert_array_equal(a, np.concatenate(b)), batch, *parts)


def test_images_lie_in_the_corner_and_crops_of_larger_ones_beside_each_other():
    images = [np.asarray(smooth(number, *size)) for number, size in enumerate([(30, 40), (41, 9)])]
    boxes = np.concatenate(
        [crop_boxes(np.array([[n, n]]), image.shape[:2], CROPS) for n, image in enumerate(images)]
    )
    small, large = canvas = np.full((2, 40, 40, 3), 77, np.uint8)  # of a batch before
    found = lay_out(images, boxes, CROPS, canvas)
    np.testing.assert_array_equal(small[:30], images[0])
    assert not small[30:].any()
    np.testing.assert_array_equal(found, [boxes[0], tiles(CROPS, 40)])
    sixteen, eight = (np.zeros((1, 2, size, size, 3), np.uint8) for size in (16, 8))
    cut_all(images[1:], boxes[1:], [sixteen, eight])
    for (top, left, size, _), crop in zip(found[1], [*sixteen[0], *eight[0]], strict=True):
        np.testing.assert_array_equal(large[top : top + size, left : left + size], crop)
        large[top : top + size, left : left + size] = 0
    assert not large.any()


@pytest.mark.parametrize(
    ("crops", "image_sizes", "side"),
    [
        (SWAV_CROPS, [(375, 500), (400, 300)], 500),
        (SWAV_CROPS, [(375, 500), (4000, 3000)], 512),
        (SWAV_CROPS, [(32, 32)], 448),  # the large crops beside each other
        (((1, 600, 0.1, 1.0),), [], 600),
    ],
)
def test_a_canvas_has_room_for_images_and_for_crops_that_do_not_overlap(crops, image_sizes, side):
    assert canvas_side(crops, image_sizes) == side
    covered = np.zeros((side, side), int)
    for top, left, size, _ in tiles(crops, side):
        assert top + size <= side and left + size <= side
        covered[top : top + size, left : left + size] += 1
    assert covered.max() == 1
    assert covered.sum() == sum(count * size**2 for count, size, *_ in crops)


def test_a_run_on_images_of_several_sizes_resumes_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(canvases, "LARGEST", 45)
    for number in range(12):
        smooth(number, 30 + 3 * number, 50 - 3 * number).save(tmp_path / f"{number}.png")
    config = tiny_swav()
    config.data.name, config.data.data_dir = "folder", str(tmp_path)
    config.data.crop_on, config.data.batch_size, config.train.steps = "device", 8, 4
    with tempfile.TemporaryDirectory() as folder:  # `tmp_path` holds the images
        assert_resumes_exactly(config, Path(folder), monkeypatch, after=2)
