import dataclasses
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from images import smooth
from prepared import prepare

from swav_jax.data import host_memory
from swav_jax.data.batches import eval_batches
from swav_jax.data.passes import one_pass
from swav_jax.data.sources import open_source
from swav_jax.data.sources.memory import open_arrays
from swav_jax.data.sources.source import DataError
from swav_jax.data.watched import Batches

NO_TENSORFLOW = """
import sys
from swav_jax.data.passes import one_pass
from swav_jax.data.sources import open_source

source = open_source("tfds:photos", sys.argv[1], "train")
(batch,) = one_pass(source, 8, resize=12, crop=8)
assert source.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
assert "tensorflow" not in sys.modules
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Where seven images of 12 x 15 pixels are prepared."""
    top = tmp_path_factory.mktemp("tfds")
    features = {
        "image": tfds.features.Image(shape=(12, 15, 3)),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    examples = [{"image": np.asarray(smooth(i, 12, 15)), "label": i % 2} for i in range(7)]
    prepare(top, "photos", features, {"train": [examples]})
    return top


@pytest.mark.parametrize(("resize", "crop"), [(0, 0), (0, 12), (12, 12), (12, 9), (0, 8)])
def test_images_that_are_only_cut_are_those_of_tensorflow(photos, resize, crop):
    source = open_source("tfds:photos", str(photos), "train")
    for process in (0, 1):
        options = {"resize": resize, "crop": crop, "process": process, "processes": 2}
        ours = list(one_pass(source, 4, first=1, **options))
        for batch, other in zip(ours, eval_batches(source, 4, first=1, **options), strict=True):
            jax.tree.map(np.testing.assert_array_equal, batch, other)
            assert [x.dtype for x in batch] == [x.dtype for x in other]


def test_tensorflow_resizes_and_pads(photos):
    source = open_source("tfds:photos", str(photos), "train")
    for resize, crop in [(8, 8), (15, 12), (0, 15)]:
        assert isinstance(one_pass(source, 4, resize=resize, crop=crop), Batches)
    with pytest.raises(ValueError, match="does not fit"):
        one_pass(source, 4, resize=8, crop=12)


def test_prepared_images_of_one_size_need_no_tensorflow(photos):
    done = subprocess.run(
        [sys.executable, "-c", NO_TENSORFLOW, photos], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_damaged_images_are_named_and_left_out():
    arrays = [np.full((4, 4, 3), i, np.uint8) for i in range(5)]
    whole = open_arrays(arrays)

    def decode(i):
        if i == 3:
            raise OSError("image file is truncated")
        return arrays[i]

    source = dataclasses.replace(whole, decode=decode, explain=lambda _: "truncated")
    batches = list(one_pass(source, 2, resize=0, crop=0, max_bad_fraction=0.2))
    valid = np.concatenate([batch.valid for batch in batches])
    assert valid.tolist() == [True, True, True, False, True, False]
    assert not batches[1].image[1].any() and source.unreadable == {3}
    with pytest.raises(DataError, match=r"1 of 5 .* image 3 \(truncated\)"):
        list(one_pass(source, 2, resize=0, crop=0, max_bad_fraction=0.1))
    larger = dataclasses.replace(
        open_arrays(arrays), decode=lambda i: np.zeros((4 + i, 4, 3), np.uint8)
    )
    with pytest.raises(DataError, match="differ in size"):
        list(one_pass(larger, 2, resize=0, crop=0))


def test_an_unreadable_file_among_images_of_one_size_is_left_out(tmp_path):
    for number in range(5):
        smooth(number, 12, 15).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    source = open_source("folder", str(tmp_path), ".")
    (batch,) = one_pass(source, 5, resize=0, crop=0, max_bad_fraction=0.5)
    assert batch.image.shape == (5, 12, 15, 3)
    assert batch.valid.tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("memory", [False, True])
def test_large_images_of_one_size_are_decoded_by_several_threads_in_their_order(
    memory, monkeypatch
):
    monkeypatch.setattr(host_memory, "TOGETHER", 8)
    images, together = np.arange(7, dtype=np.uint8), threading.Barrier(2)

    def decode(number):
        if number in (0, 4):  # the first of each thread
            together.wait(timeout=10)
        return np.full((96, 96, 3), images[number])

    source = dataclasses.replace(
        open_arrays([np.zeros((96, 96, 3), np.uint8)] * 7), decode=decode, may_fail=True
    )
    if memory:
        source = host_memory.in_memory(source, 0.0, threads=2)
    batches = list(one_pass(source, 8, resize=0, crop=0, max_bad_fraction=0.0, threads=2))
    assert [len(batch.image) for batch in batches] == [8]
    assert batches[0].image[:7, 0, 0, 0].tolist() == images.tolist()
