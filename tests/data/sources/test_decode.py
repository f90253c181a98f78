import io

import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from PIL import Image, features
from pixels import DEEP, RGB, SMOOTH, deep_png, encoded

from swav_jax.data.sources import decode as decoding
from swav_jax.data.sources.decode import decode
from swav_jax.data.sources.pixels import AS_USUAL, Pixels
from swav_jax.data.tf import as_written


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(logging, "warning", lambda *args: None)


def _decode(data, pixels=AS_USUAL):
    decoder = as_written(lambda data: decode(data, pixels))
    return tf.data.Dataset.from_tensors(data).map(decoder).get_single_element().numpy()


def _pillows(data):
    """Its RGB, on white."""
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    ground = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(ground, image).convert("RGB"))


HALF = Image.fromarray(np.dstack([SMOOTH, SMOOTH[..., :1]]))
PALETTE = RGB.quantize(16)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (RGB, "JPEG"),
        (RGB.convert("L"), "JPEG"),
        (RGB.convert("CMYK"), "JPEG"),
        (RGB, "PNG"),
        (RGB.convert("1"), "PNG"),
        (RGB.convert("L"), "PNG"),
        (HALF.convert("LA"), "PNG"),
        (HALF, "PNG"),
        (PALETTE, "PNG"),
        (RGB, "WEBP"),
        (HALF, "WEBP"),
        (RGB, "GIF"),
        (RGB.convert("L"), "GIF"),
        (HALF, "GIF"),
        (RGB, "BMP"),
        (RGB.convert("L"), "BMP"),
        (PALETTE, "BMP"),
        (RGB, "TIFF"),
        (HALF, "TIFF"),
        (RGB.convert("CMYK"), "TIFF"),
        (RGB.convert("1"), "TIFF"),
        (RGB.convert("YCbCr"), "TIFF"),
        (RGB, "PPM"),
        (RGB.convert("L"), "PPM"),
        (RGB.convert("1"), "PPM"),
        pytest.param(
            RGB, "AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="no AVIF")
        ),
        (RGB, "JPEG2000"),
        (HALF, "JPEG2000"),
        (HALF, "ICO"),
        (RGB, "PCX"),
        (RGB, "TGA"),
        (HALF, "TGA"),
        (RGB, "SGI"),
        (HALF, "DDS"),
    ],
    ids=lambda x: x if isinstance(x, str) else x.mode,
)
def test_every_format_and_mode_decodes_to_pillows_rgb_on_white(image, kind):
    data = encoded(image, kind)
    ours, pillows = _decode(data), _pillows(data)
    assert ours.dtype == np.uint8 and ours.shape == pillows.shape
    assert np.abs(ours.astype(int) - pillows).max() <= 1


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (RGB, RGB.getpixel((3, 4))),
        (RGB.convert("L"), 77),
        (PALETTE, 5),
        (PALETTE, bytes(range(16))),
    ],
    ids=["RGB", "L", "P", "a palette's alpha"],
)
def test_a_transparent_colour_of_a_png_is_white(image, colour):
    data = encoded(image, "PNG", transparency=colour)
    ours = _decode(data)
    np.testing.assert_array_equal(ours, _pillows(data))
    assert not np.array_equal(ours, _decode(data, Pixels(background="")))


def test_plain_images_are_tensorflows_job_alone(monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(decoding, "rgb", never)
    profile = bytes(range(256)) * 12  # pixels begin after it
    for data in (
        encoded(RGB, "JPEG"),
        encoded(RGB, "PNG"),
        encoded(RGB, "PNG", icc_profile=profile),
        encoded(RGB.convert("L"), "PNG"),
        encoded(PALETTE, "PNG"),
    ):
        assert _decode(data).shape == (25, 35, 3)


def test_of_an_animation_the_first_frame_is_read():
    frames = [RGB, Image.new("RGB", RGB.size, "red")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(_decode(data), _pillows(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_by_a_setting(kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(RGB, kind, exif=exif)
    turned = Pixels(exif_orientation=True)
    stored, shown = _decode(data), _decode(data, turned)
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)  # Pillow's numbers
    expected = Image.fromarray(_pillows(encoded(RGB, kind)))
    expected = np.asarray(expected if turn is None else expected.transpose(turn))
    np.testing.assert_array_equal(shown, expected)
    if kind == "TIFF":  # whose own tag holds in any case
        np.testing.assert_array_equal(stored, expected)
    else:
        np.testing.assert_array_equal(stored, _pillows(encoded(RGB, kind)))


def test_a_deep_png_is_turned_too():
    exif = Image.Exif()
    exif[274] = 6
    data = encoded(Image.fromarray(DEEP[..., 0]), "PNG", exif=exif)
    turned = _decode(data, Pixels(white_level=4095.0, exif_orientation=True))
    plain = _decode(deep_png(DEEP[..., :1]), Pixels(white_level=4095.0))
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))


def test_what_cannot_be_read_is_empty():
    for data in (b"", b"<html>", encoded(RGB, "TIFF")[:900], encoded(RGB, "GIF")[:60]):
        assert _decode(data).size == 0
