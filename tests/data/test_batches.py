import dataclasses
import re
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from images import save_damaged, smooth
from PIL import Image

from swav_jax.data import index
from swav_jax.data.batch import Batch
from swav_jax.data.batches import eval_batches, images_together, train_batches
from swav_jax.data.crops import random_boxes
from swav_jax.data.sources import open_source
from swav_jax.data.sources.source import DataError

CROPS = ((2, 24, 0.3, 1.0), (3, 16, 0.1, 0.3))
REASONS = {
    "bad_truncated.jpg": "damaged: .*",
    "bad_truncated.png": "damaged: .*truncated",
    "bad_empty.jpg": "the file is empty",
    "bad_text.jpg": "no image: it begins with b'not an image'",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twenty-three readable images of several sizes."""
    folder = tmp_path_factory.mktemp("photos")
    for n in range(23):
        smooth(n, 30 + n, 60 - n).save(folder / f"{n:02}.{'jpg' if n % 2 else 'png'}")
    return open_source("folder", str(folder), "train")


def _take(batches, count):
    return [next(batches) for _ in range(count)]


def _assert_same(some, others):
    assert len(some) == len(others)
    for a, b in zip(some, others, strict=True):
        np.testing.assert_array_equal(a.index, b.index)
        for x, y in zip(a.crops, b.crops, strict=True):
            np.testing.assert_array_equal(x, y)


def test_batches_are_sample_major_uint8(photos):
    batch = next(train_batches(photos, CROPS, 4, seed=0))
    assert isinstance(batch, Batch)
    assert [x.shape for x in batch.crops] == [(4, 2, 24, 24, 3), (4, 3, 16, 16, 3)]
    assert all(x.dtype == np.uint8 for x in batch.crops) and batch.index.dtype == np.int32
    for views in batch.crops:
        for sample in views:
            assert np.std(sample) > 0 and not np.array_equal(sample[0], sample[1])


def test_tensorflow_warns_of_nothing(photos, caplog):
    next(train_batches(photos, CROPS, 4, seed=0))
    next(eval_batches(photos, 4, resize=8, crop=8))
    assert [record.message for record in caplog.records if record.name == "tensorflow"] == []


def test_an_epoch_shows_every_image_in_the_order_of_its_permutation(photos):
    batches = train_batches(photos, CROPS, 23, seed=5, last_step=2)
    for epoch, batch in enumerate(batches):
        np.testing.assert_array_equal(batch.index, index.epoch_order(5, epoch, 23))
    assert epoch == 1


def test_same_batches_whatever_the_threads(photos):
    one = _take(train_batches(photos, CROPS, 6, seed=1, threads=1), 5)
    _assert_same(one, _take(train_batches(photos, CROPS, 6, seed=1, threads=4), 5))
    other = next(train_batches(photos, CROPS, 6, seed=2))
    assert not np.array_equal(one[0].crops[0], other.crops[0])


@pytest.mark.parametrize("canvas", [None, 60])
def test_what_is_kept_of_a_batch_stays_while_others_are_made(photos, canvas):
    batches = train_batches(photos, CROPS, 4, seed=0, canvas=canvas)
    batch = next(batches)
    kept = (batch.images if canvas else batch.crops[0])[1:3]
    before = kept.copy()
    del batch
    _take(batches, 10)
    np.testing.assert_array_equal(kept, before)


def test_of_large_images_a_thread_holds_few(photos):
    assert photos.area == np.mean([(30 + n) * (60 - n) for n in range(23)])
    assert [images_together(photos, size) for size in (24, 224, 800)] == [16, 10, 1]
    for side, count in ((500, 16), (1000, 8), (2000, 2), (10_000, 1)):
        assert images_together(dataclasses.replace(photos, area=side**2), 24) == count
        assert images_together(dataclasses.replace(photos, shape=(side, side)), 24) == count


@pytest.mark.parametrize("step", [1, 3, 4, 7])  # 3 steps an epoch
def test_same_batches_after_a_restart_at_any_step(photos, step):
    whole = _take(train_batches(photos, CROPS, 6, seed=1), step + 2)
    _assert_same(whole[step:], _take(train_batches(photos, CROPS, 6, seed=1, first_step=step), 2))


def test_two_processes_read_the_batches_of_one(photos):
    whole = _take(train_batches(photos, CROPS, 6, seed=1), 4)
    parts = [
        _take(train_batches(photos, CROPS, 6, seed=1, process=p, processes=2), 4) for p in (0, 1)
    ]
    joined = [
        jax.tree.map(lambda *rows: np.concatenate(rows), a, b) for a, b in zip(*parts, strict=True)
    ]
    _assert_same(whole, joined)


def test_an_epoch_has_crops_of_its_own(photos):
    def same_order(_):
        return np.arange(23)

    first, second = _take(train_batches(photos, CROPS, 23, seed=1, order=same_order), 2)
    np.testing.assert_array_equal(first.index, second.index)
    for row in range(23):
        assert not np.array_equal(first.crops[0][row], second.crops[0][row])


def test_an_image_that_is_drawn_again_has_other_crops(photos):
    twice = np.repeat(np.arange(12), 2)[:23]
    batch = next(train_batches(photos, CROPS, 23, seed=1, order=lambda _: twice))
    np.testing.assert_array_equal(batch.index, twice)
    np.testing.assert_array_equal(batch.sample, twice + 23 * (np.arange(23) % 2))
    assert not np.array_equal(batch.crops[0][0], batch.crops[0][1])
    plain = next(train_batches(photos, CROPS, 23, seed=1, order=lambda _: np.arange(23)))
    np.testing.assert_array_equal(batch.crops[0][2], plain.crops[0][1])


def test_crops_are_those_of_pillow(photos):
    """The boxes are drawn again, and cut by Pillow from the file."""
    batch = next(train_batches(photos, CROPS, 6, seed=3))
    for row, number in enumerate(batch.index):
        image = Image.open(photos.describe(number)).convert("RGB")
        uniform = tf.random.stateless_uniform(
            [5, 10, 4], [3 << 32, number], dtype=tf.float64, alg="philox"
        )
        low, high = np.array([[0.3]] * 2 + [[0.1]] * 3), np.array([[1.0]] * 2 + [[0.3]] * 3)
        boxes = random_boxes(uniform, tf.constant(image.size[::-1]), low, high).numpy()
        views = [*batch.crops[0][row], *batch.crops[1][row]]
        for (top, left, height, width), view in zip(boxes, views, strict=True):
            box = image.crop((left, top, left + width, top + height))
            pillows = box.resize(view.shape[:2], Image.Resampling.BILINEAR)
            apart = np.abs(view.astype(int) - np.asarray(pillows))
            assert apart.mean() < 0.5 and apart.max() <= 2


@pytest.mark.parametrize("processes", [1, 2])
def test_evaluation_shows_every_image_once_in_order(photos, processes):
    parts = [
        list(eval_batches(photos, 6, resize=28, crop=24, process=p, processes=processes))
        for p in range(processes)
    ]
    assert {len(part) for part in parts} == {4}
    whole = next(eval_batches(photos, 23, resize=28, crop=24))
    for n, batches in enumerate(zip(*parts, strict=True)):
        joined = jax.tree.map(lambda *rows: np.concatenate(rows), *batches)
        rows = min(6, 23 - 6 * n)
        assert joined.image.shape == (6, 24, 24, 3) and joined.index.dtype == np.int32
        assert joined.valid.tolist() == [True] * rows + [False] * (6 - rows)
        assert joined.index.tolist() == [min(6 * n + r, 22) for r in range(6)]
        np.testing.assert_array_equal(joined.image[:rows], whole.image[6 * n :][:rows])


def test_evaluation_takes_images_as_they_are(photos):
    digits = open_source("digits", "", "test")
    batch = next(eval_batches(digits, 10, resize=0, crop=0))
    np.testing.assert_array_equal(batch.image[3], digits.read(tf.constant(3, tf.int64)))
    with pytest.raises(DataError, match="differ in size"):
        next(eval_batches(photos, 10, resize=0, crop=0))
    with pytest.raises(ValueError, match="does not fit"):
        eval_batches(digits, 10, resize=24, crop=32)


@pytest.fixture
def damaged(tmp_path):
    save_damaged(tmp_path)
    return tmp_path


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: found.append(message % args))
    return found


def test_unreadable_images_are_replaced_and_named_once(damaged, warnings):
    source = open_source("folder", str(damaged), "train")
    assert source.size == 20
    assert "folder x.jpg" in source.notes[0]
    bad = {i for i in range(20) if "bad_" in source.describe(i)}
    options = {"seed": 0, "max_bad_fraction": 0.2}

    batches = train_batches(source, CROPS, 5, **options)
    taken = _take(batches, 12)  # 3 epochs
    assert source.unreadable == bad
    for epoch in range(3):
        shown = np.concatenate([b.index for b in taken[4 * epoch : 4 * epoch + 4]])
        order = index.epoch_order(0, epoch, 20)
        assert not bad & set(shown) and set(range(20)) - bad <= set(shown)
        assert all(a == b for a, b in zip(shown, order, strict=True) if b not in bad)
    for i in bad:
        (warning,) = (w for w in warnings if source.describe(i) in w)
        assert re.search(REASONS[source.describe(i).rpartition("/")[2]], warning)

    resumed = train_batches(source, CROPS, 5, first_step=5, threads=3, **options)
    _assert_same(taken[5:8], _take(resumed, 3))

    valid = np.concatenate(
        [b.valid for b in eval_batches(source, 5, resize=24, crop=24, max_bad_fraction=0.2)]
    )
    assert set(np.flatnonzero(~valid)) == bad


def test_batches_go_on_where_the_first_unreadable_image_is_met(damaged):
    source = open_source("folder", str(damaged), "train")
    bad = [i for i in range(20) if "bad_" in source.describe(i)]
    good = sorted(set(range(20)) - set(bad))
    options = {"seed": 0, "order": lambda _: np.array(good + bad), "max_bad_fraction": 0.2}
    taken = _take(train_batches(source, CROPS, 4, **options), 7)
    shown = np.concatenate([batch.index for batch in taken])
    assert shown[:16].tolist() == good and not set(bad) & set(shown[16:20])
    assert shown[20:].tolist() == good[:8]
    _assert_same(taken[3:], _take(train_batches(source, CROPS, 4, first_step=3, **options), 4))


def test_batches_that_replace_images_share_no_order_with_those_still_read_ahead(damaged):
    asked = []

    def order(epoch):
        asked.append(epoch)
        return np.arange(20)

    source = open_source("folder", str(damaged), "train")
    options = {"seed": 0, "last_step": 1, "order": order, "max_bad_fraction": 0.2}
    next(train_batches(source, CROPS, 20, **options))
    assert asked == [0, 0]


def test_too_many_unreadable_images_stop_training(damaged):
    source = open_source("folder", str(damaged), "train")
    with pytest.raises(
        DataError, match=r"4 of 20 .*bad_empty.jpg \(the file is empty\).*data\.max_bad_fraction"
    ):
        _take(train_batches(source, CROPS, 20, seed=0, max_bad_fraction=0.19), 1)
    for path in damaged.glob("*.*g"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(DataError, match=r"20 of 20 .* 20 in a row.* names each\)$"):
        next(train_batches(source, CROPS, 5, seed=0, max_bad_fraction=1.0))


def test_the_wait_and_the_slow_stage_are_known():
    def slowly(image):
        time.sleep(0.05)
        return image

    def read(i):
        image = tf.numpy_function(slowly, [digits.read(i)], tf.uint8)
        return tf.ensure_shape(image, [32, 32, 3])

    digits = open_source("digits", "", "train")
    batches = train_batches(dataclasses.replace(digits, read=read), CROPS, 4, seed=0, threads=1)
    next(batches)
    assert batches.wait_seconds > 4 * 0.05
    assert batches.stage_seconds["read"] > 0.05
    assert batches.stage_seconds["read"] > batches.stage_seconds["crop"] > 0


@pytest.mark.slow  # it starts Python and TensorFlow anew
def test_an_open_iterator_does_not_hang_the_end_of_python():
    program = """
import dataclasses
import re
from swav_jax.data import sources
from swav_jax.data.batches import train_batches
import tensorflow as tf

digits = sources.open_source("digits", "", "train")
def read(i):
    return tf.ensure_shape(tf.numpy_function(lambda x: x, [digits.read(i)], tf.uint8), [32, 32, 3])
source = dataclasses.replace(digits, read=read)
other = train_batches(source, ((2, 16, 0.3, 1.0),), 256, seed=0)
next(other)
def train():
    batches = train_batches(source, ((2, 16, 0.3, 1.0),), 256, seed=0, threads=4)
    next(batches)
    raise ValueError("the error that ends training")
train()
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=120, capture_output=True)
    assert ended.returncode == 1 and b"the error that ends training" in ended.stderr
