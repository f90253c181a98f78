import jax
import numpy as np
import pytest
from images import save_damaged
from jax.experimental import multihost_utils
from tiny import tiny_swav

from swav_jax import caching
from swav_jax.config import ConfigError
from swav_jax.data import host_memory
from swav_jax.data.sources import open_source
from swav_jax.data.sources.source import DataError
from swav_jax.run import build, training_batches


def with_cache(cache, source, **settings):
    config = tiny_swav()
    config.data.cache, config.data.batch_size, config.data.max_bad_fraction = cache, 8, 0.3
    config.data.update(settings)
    return build(config, source)


def take(run, count):
    batches = training_batches(run, 3)
    return [next(batches) for _ in range(count)]


@pytest.mark.parametrize("crop_on", ["host", "device"])
def test_batches_are_those_of_the_files_which_are_read_once(tmp_path, crop_on):
    save_damaged(tmp_path)  # images of several sizes, four of which cannot be read
    source = open_source("folder", str(tmp_path), "train")
    expected = take(with_cache("none", source, crop_on=crop_on), 5)
    run = with_cache("host", source, crop_on=crop_on)
    source.unreadable.clear()
    take(run, 1)
    assert len(source.unreadable) == 4
    for file in tmp_path.iterdir():
        file.rename(tmp_path / f"{file.name}.gone")
    jax.tree.map(np.testing.assert_array_equal, take(run, 5), expected)


def test_images_of_one_size_need_no_reading_to_know_that_they_fit(monkeypatch):
    run = with_cache("host", None)
    assert run.cached_size is None and run.canvas is None  # though the digits have one size
    assert host_memory.bytes_decoded(run.source) == 1500 * 32 * 32 * 3
    jax.tree.map(np.testing.assert_array_equal, take(run, 2), take(with_cache("none", None), 2))


def test_what_does_not_fit_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(caching, "memory", lambda: 4 * 1500 * 32 * 32 * 3)
    with_cache("host", None)
    monkeypatch.setattr(caching, "memory", lambda: 4 * 1500 * 32 * 32 * 3 - 4)
    with pytest.raises(ConfigError, match=r"cache is host, but .* about 0.00 GiB, of which 0.00"):
        with_cache("host", None)


def test_processes_on_one_machine_share_its_memory(monkeypatch):
    monkeypatch.setattr(caching, "memory", lambda: 2 * 4 * 1500 * 32 * 32 * 3)
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda mine: np.stack([mine] * 2))
    with_cache("host", None)
    monkeypatch.setattr(
        multihost_utils,
        "process_allgather",
        lambda mine: np.stack([mine, mine + 1, mine, mine]),  # the second is elsewhere
    )
    with pytest.raises(ConfigError, match="a quarter of the memory that 3 processes share"):
        with_cache("host", None)


def test_too_many_unreadable_images_are_refused(tmp_path):
    save_damaged(tmp_path)
    source = open_source("folder", str(tmp_path), "train")
    with pytest.raises(DataError, match=r"3 of 20 images cannot be read: .*which allows 2 of them"):
        take(with_cache("host", source, max_bad_fraction=0.1), 1)
