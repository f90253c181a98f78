import jax
import numpy as np
import pytest
from PIL import Image
from tiny import tiny_swav

from swav_jax import sharding
from swav_jax.data.batch import Batch
from swav_jax.monitor import crops
from swav_jax.monitor.crops import GAP, cut_on_host, draw_crops
from swav_jax.run import build, training_batches


@pytest.fixture(scope="module")
def run():
    config = tiny_swav()
    config.augment.jitter = config.augment.grey = 0.5
    return build(config)


@pytest.fixture(scope="module")
def batch(run):
    draw = np.random.default_rng(0)
    images = [
        draw.integers(0, 256, (16, n, size, size, 3), np.uint8)
        for n, size, *_ in run.config.data.crops
    ]
    return Batch(tuple(images), np.arange(16, dtype=np.int32), np.arange(16, dtype=np.int32))


def test_it_shows_what_the_network_gets(run, batch, tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "TALL", 1)  # nothing is enlarged
    with jax.set_mesh(run.mesh):
        draw_crops(run, batch, 3 * run.sizes.steps_per_epoch, tmp_path / "crops.png")
        placed = sharding.put_batch(run.mesh, batch)
        seen = jax.device_get(jax.jit(run.augment)(placed, epoch=3))
    picture = np.asarray(Image.open(tmp_path / "crops.png"))
    assert picture.shape == (8 * (16 + GAP), 2 * (16 + GAP) + 2 * (8 + GAP), 3)
    left = 0
    for kind in seen:  # float, normalised
        size = kind.shape[2]
        for number in range(kind.shape[1]):
            for image in range(8):
                top = image * (16 + GAP)
                drawn = picture[top : top + size, left : left + size] / 255
                normalised = (drawn - run.config.augment.mean) / run.config.augment.std
                np.testing.assert_allclose(normalised, kind[image, number], atol=0.01)
            left += size + GAP


def test_small_crops_are_enlarged(run, batch, tmp_path):
    draw_crops(run, batch, 0, tmp_path / "crops.png")
    picture = np.asarray(Image.open(tmp_path / "crops.png"))
    assert picture.shape == (8 * (96 + GAP), 2 * (96 + GAP) + 2 * (48 + GAP), 3)
    first = picture[:96, :96].reshape(16, 6, 16, 6, 3)
    assert (first == first[:, :1, :, :1]).all()


def test_a_resume_does_not_overwrite_it_and_a_new_beginning_does(run, batch, tmp_path):
    (tmp_path / "crops.png").write_text("of the first batch")
    draw_crops(run, batch, 1, tmp_path / "crops.png")
    assert (tmp_path / "crops.png").read_text() == "of the first batch"
    draw_crops(run, batch, 0, tmp_path / "crops.png")
    assert (tmp_path / "crops.png").read_bytes().startswith(b"\x89PNG")


def test_of_crops_that_devices_cut_those_come_that_are_looked_at(run, monkeypatch):
    assert run.cached_size
    batch = next(training_batches(run, 0))
    with jax.set_mesh(run.mesh):
        whole = cut_on_host(run, batch)
        monkeypatch.setattr(crops, "LOOK_AT", 5)
        crops._cut_everywhere.clear_cache()
        some = cut_on_host(run, batch)
    assert len(whole.index) == 16 and len(some.index) == 5
    jax.tree.map(lambda few, all: np.testing.assert_array_equal(few, all[:5]), some, whole)
