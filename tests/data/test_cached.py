from functools import partial

import jax
import numpy as np
import pytest
from images import save_damaged, smooth
from tiny import tiny_swav

from swav_jax import sharding
from swav_jax.config import ConfigError
from swav_jax.data.batches import train_batches
from swav_jax.data.sources import open_source
from swav_jax.data.sources.memory import open_arrays
from swav_jax.data.sources.source import DataError, SizesDiffer
from swav_jax.run import build, cut_batch, training_batches


def with_cache(cache, batch_size=8, source=None, **settings):
    config = tiny_swav()
    config.data.cache, config.data.batch_size = cache, batch_size
    config.data.update(settings)
    return build(config, source)


@partial(jax.jit, static_argnums=0)
def cut(run, placed):
    return cut_batch(placed, run.config.data.crops, run.cached_size)


def assert_same_batches(run, device_batches, host_batches, count):
    for _ in range(count):
        ours = cut(run, sharding.put_batch(run.mesh, next(device_batches)))
        theirs = next(host_batches)
        np.testing.assert_array_equal(ours.index, theirs.index)
        np.testing.assert_array_equal(ours.sample, theirs.sample)
        for kind, other in zip(ours.crops, theirs.crops, strict=True):
            assert np.abs(np.asarray(kind, int) - other).max() <= 2


@pytest.mark.parametrize("order", [None, lambda epoch: np.arange(1500) // 2 + epoch])
def test_batches_are_those_of_the_host_from_any_step_and_in_any_order(order):
    run, crops = with_cache("device"), tiny_swav().data.crops
    for step in (0, 185, 187 * 3 + 1):
        ours = training_batches(run, step, step + 4, order)
        theirs = train_batches(
            run.source, crops, 8, seed=0, first_step=step, last_step=step + 4, order=order
        )
        assert_same_batches(run, ours, theirs, 4)
        with pytest.raises(StopIteration):
            next(ours)


@pytest.mark.usefixtures("as_users_compile")  # other compilations may round differently
def test_several_devices_cut_the_crops_of_one_to_the_bit():
    def crops(devices):
        run = build(tiny_swav(), devices=jax.devices()[:devices])
        with jax.set_mesh(run.mesh):
            assert run.cached  # or the host would have cut them all
            batches = training_batches(run, 0)
            placed = [sharding.put_batch(run.mesh, next(batches)) for _ in range(3)]
            return jax.device_get([cut(run, batch) for batch in placed])

    alone = crops(1)
    for devices in (2, 8):
        jax.tree.map(np.testing.assert_array_equal, crops(devices), alone)


def test_damaged_images_are_replaced_as_by_the_host(tmp_path):
    save_damaged(tmp_path)
    (tmp_path / "wide.png").unlink()
    source = open_source("folder", str(tmp_path), "train")
    run = with_cache("device", source=source, max_bad_fraction=0.3)
    ours = training_batches(run, 0)
    assert len(source.unreadable) == 4
    assert {source.describe(i).rpartition("/")[2][:3] for i in source.unreadable} == {"bad"}
    theirs = train_batches(source, run.config.data.crops, 8, seed=0, max_bad_fraction=0.3)
    assert_same_batches(run, ours, theirs, 6)
    source.unreadable.clear()
    with pytest.raises(DataError, match=r"images cannot be read: .* raise data\.max_bad_fraction"):
        training_batches(with_cache("device", source=source, max_bad_fraction=0.1), 0)


def test_images_that_another_process_cannot_read_are_replaced_and_counted(monkeypatch):
    def of_both(flags):
        return flags | (np.arange(len(flags)) == 3)

    monkeypatch.setattr("swav_jax.run.processes.in_any", of_both)
    run = with_cache("device")
    assert np.flatnonzero(run.cached.shown != np.arange(1500)).tolist() == [3]
    assert run.source.unreadable == {3}
    with pytest.raises(DataError, match="1 of 1500 images cannot be read"):
        training_batches(with_cache("device", max_bad_fraction=0.0), 0)


def test_what_fits_is_cached_and_what_does_not_is_said(monkeypatch):
    assert with_cache("auto").cached_size == (32, 32)
    assert with_cache("none").cached_size is None
    monkeypatch.setattr("swav_jax.caching.room_for_data", lambda _: 188 * 32 * 32 * 3)  # 1500 / 8
    assert with_cache("device").cached_size == (32, 32)
    monkeypatch.setattr("swav_jax.caching.room_for_data", lambda _: 188 * 32 * 32 * 3 - 1)
    assert with_cache("auto").cached_size is None
    with pytest.raises(ConfigError, match=r"cache is device, but .* take 0.00 GiB of each device"):
        with_cache("device")


def test_unreadable_images_have_no_size(tmp_path):
    for number in range(24):
        (tmp_path / f"{number}.png").write_bytes(b"")
    source = open_source("folder", str(tmp_path), "train")
    with pytest.raises(ConfigError, match=r"none of the training images .* can be read"):
        with_cache("device", source=source)


def test_images_of_several_sizes_are_left_to_the_host():
    images = [np.asarray(smooth(number, 20, 20 + (number == 300))) for number in range(600)]
    source = open_arrays(images)
    few = open_arrays(images[288:312])  # of which all are looked at
    assert with_cache("auto", source=few).cached_size is None
    run = with_cache("auto", source=source)
    assert run.cached_size == (20, 20) and run.cached is None  # found when all are decoded
    assert next(training_batches(run, 0)).crops[0].shape == (8, 2, 16, 16, 3)
    with pytest.raises(ConfigError, match="differ in size"):
        with_cache("device", source=few)
    with pytest.raises(SizesDiffer, match="differ in size"):
        training_batches(with_cache("device", source=source), 0)
