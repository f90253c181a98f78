import base64
from io import BytesIO

import numpy as np
from images import smooth
from PIL import Image

from swav_jax.data.sources import open_source
from swav_jax.evals.labelled import Images
from swav_jax.pages import thumbnails as pictures
from swav_jax.pages.thumbnails import COLUMNS, sheets, thumbnails


def opened(text):
    return np.asarray(Image.open(BytesIO(base64.b64decode(text))))


def test_pictures_lie_in_sheets_row_by_row():
    colours = np.random.default_rng(0).integers(0, 256, (COLUMNS**2 + 20, 1, 1, 3), np.uint8)
    first, second = map(opened, sheets(np.broadcast_to(colours, (len(colours), 16, 16, 3))))
    assert first.shape == (16 * COLUMNS, 16 * COLUMNS, 3) and second.shape == (32, 16 * COLUMNS, 3)
    there = first[8 + 16 * 2, 8 + 16 * 3].astype(int)
    assert np.abs(there - colours[2 * COLUMNS + 3, 0, 0]).max() < 40
    assert np.abs(second[8 + 16, 8 + 16 * 3].astype(int) - colours[-1, 0, 0]).max() < 40


def test_what_compresses_badly_gets_a_lower_quality(monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
    before = sum(map(len, sheets(noise)))
    monkeypatch.setattr(pictures, "BYTES", before // 2)
    assert sum(map(len, sheets(noise))) < 0.8 * before


def test_they_are_what_evaluations_see():
    digits = open_source("digits", "", "train")
    part = digits.part(np.array([5, 3]), np.zeros(2, np.int32), ("all",))
    mean = std = (0.5,) * 3
    whole = thumbnails(Images(part, resize=0, crop=0, mean=mean, std=std))
    assert whole.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(whole[1], digits.read(3).numpy())
    assert thumbnails(Images(part, resize=40, crop=16, mean=mean, std=std)).shape == (2, 16, 16, 3)


def test_an_unreadable_image_is_black_and_the_others_stay_in_their_places(tmp_path):
    for number in range(3):
        smooth(number, 20, 20).save(tmp_path / f"{number}.png")
    source = open_source("folder", str(tmp_path), "train")
    (tmp_path / "1.png").write_bytes(b"")  # after it was listed
    mean = std = (0.5,) * 3
    whole = thumbnails(Images(source, resize=20, crop=20, mean=mean, std=std, max_bad_fraction=1.0))
    assert whole.shape == (3, 20, 20, 3) and not whole[1].any()
    for number in (0, 2):
        np.testing.assert_allclose(whole[number], np.asarray(smooth(number, 20, 20)), atol=1)
