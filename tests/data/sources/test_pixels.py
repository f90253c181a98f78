import io
import re
from dataclasses import replace

import numpy as np
import pytest
from absl import logging
from PIL import Image
from pixels import DEEP, RGB, SMOOTH, deep_png, deep_tiff, encoded

from swav_jax.data.sources import pixels as pixels_lib
from swav_jax.data.sources.pixels import (
    AS_USUAL,
    Pixels,
    UnreadableError,
    evenly,
    first_look,
    rgb,
    rgb_of,
    why_unreadable,
)

TWELVE = Pixels(white_level=4095.0)
RAMP = np.arange(16 * 256, dtype=np.uint16).reshape(64, 64)


@pytest.fixture(autouse=True)
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(pixels_lib, "_said", {})
    monkeypatch.setattr(logging, "warning", lambda message, *args: found.append(message % args))
    return found


def look(*files, pixels=AS_USUAL):
    return first_look(lambda i: files[i], range(len(files)), pixels)[:2]


# ---- transparency --------------------------------------------------------------------------------


def strokes():
    """Black on transparent, all RGB 0: as icons and signatures are."""
    alpha = np.zeros((20, 20), np.uint8)
    alpha[5:8] = 255
    return Image.fromarray(np.dstack([np.zeros((20, 20, 3), np.uint8), alpha]))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG2000", "TGA"])
def test_transparent_pixels_lie_on_the_background(kind, warnings):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(strokes(), kind, **options)
    for background, colour in (("white", 255), ("#808080", 128), ("", 0)):
        image = rgb(data, Pixels(background=background))
        assert (image[5:8] == 0).all() and (image[8:] == colour).all()
    assert [w.partition("(")[0].strip() for w in warnings] == [
        "transparent pixels are laid on white",
        "transparent pixels are laid on #808080",
        "the alpha channel of images is dropped",
    ]


def test_an_opaque_alpha_channel_says_nothing(warnings):
    assert np.array_equal(rgb(encoded(RGB.convert("RGBA"), "PNG"), AS_USUAL), SMOOTH)
    assert not warnings


def test_channels_that_are_dropped_are_said_once(warnings):
    four = deep_tiff(np.dstack([DEEP, DEEP[..., :1]]), extra=(0,))
    for _ in range(2):
        rgb(four, TWELVE)
    assert warnings == ["of images with 4 channels the first 3 are used, the others dropped"]


def test_further_pages_are_said_once(warnings):
    for kind in ("TIFF", "GIF"):
        rgb(encoded(RGB, kind, save_all=True, append_images=[RGB.rotate(180)]), AS_USUAL)
    assert len(warnings) == 1 and "the first image is used" in warnings[0]


# ---- more than 8 bits ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encode",
    [
        lambda grey: encoded(Image.fromarray(grey), "PNG"),
        lambda grey: encoded(Image.fromarray(grey), "TIFF"),
        lambda grey: encoded(Image.fromarray(grey), "TIFF", compression="tiff_lzw"),
        lambda grey: encoded(Image.fromarray(grey.astype(np.int32)), "TIFF"),
        lambda grey: deep_png(np.dstack([grey] * 3)),
        lambda grey: deep_tiff(grey[..., None], order=">"),
        lambda grey: deep_tiff(np.dstack([grey] * 3)),
        lambda grey: deep_tiff(np.dstack([grey] * 3), order=">"),
        lambda grey: deep_tiff(np.dstack([grey] * 3), compressed=True),
        lambda grey: deep_tiff(np.dstack([grey] * 3), order=">", compressed=True),
    ],
)
def test_twelve_bits_keep_all_grey_levels_in_png_and_tiff_alike(encode):
    data = encode(RAMP)
    pixels, notes = look(data)
    assert pixels.white_level == 4095
    assert "white is 4095" in notes[0] and "data.white_level" in notes[0]
    expected = (RAMP >> 4).astype(np.uint8)[..., None].repeat(3, -1)
    np.testing.assert_array_equal(rgb(data, pixels), expected)


def test_colours_of_16_bits():
    expected = (DEEP >> 4).astype(np.uint8)
    for data in (deep_png(DEEP), deep_tiff(DEEP), deep_tiff(DEEP, order=">", compressed=True)):
        np.testing.assert_array_equal(rgb(data, TWELVE), expected)


def test_16_bits_with_alpha():
    clear = np.dstack([DEEP, np.full((25, 35, 1), 65535, np.uint16)])
    clear[3] = 0
    for data in (deep_png(clear), deep_tiff(clear, extra=(2,))):
        shown = rgb(data, TWELVE)
        assert (shown[3] == 255).all()
        np.testing.assert_array_equal(shown[4:], (DEEP[4:] >> 4).astype(np.uint8))


def test_full_16_bits_keep_their_high_byte():
    deep = (SMOOTH[..., 0].astype(np.uint16) << 8) + 77
    deep[0, 0] = 65535
    data = encoded(Image.fromarray(deep), "PNG")
    pixels, _ = look(data)
    assert pixels.white_level == 65535
    expected = np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    np.testing.assert_array_equal(rgb(data, pixels), expected)


def test_white_level_is_one_for_all_images_and_a_setting_overrules_it():
    dark, bright = (encoded(Image.fromarray(RAMP // n), "PNG") for n in (8, 1))
    assert look(dark)[0].white_level == 511
    assert look(dark, bright)[0].white_level == look(bright, dark)[0].white_level == 4095
    assert look(dark, pixels=Pixels(white_level=1000.0)) == (Pixels(white_level=1000.0), [])
    assert look(encoded(RGB, "PNG")) == (AS_USUAL, [])


def test_values_out_of_range_are_cut_and_said(warnings):
    shown = rgb(encoded(Image.fromarray(RAMP), "PNG"), Pixels(white_level=1023.0))
    np.testing.assert_array_equal(shown[..., 0], np.minimum(RAMP >> 2, 255))
    signed = rgb(encoded(Image.fromarray(RAMP.astype(np.int32) - 100), "TIFF"), TWELVE)
    assert (signed.reshape(-1, 3)[:100] == 0).all()
    assert len(warnings) == 2 and "above 1023 white" in warnings[0]


def test_a_deep_image_that_the_first_look_missed_is_said(warnings):
    shown = rgb(encoded(Image.fromarray(RAMP), "PNG"), AS_USUAL)
    np.testing.assert_array_equal(shown[..., 0], RAMP >> 8)
    assert len(warnings) == 1 and "white is 65535" in warnings[0]


def test_white_that_is_zero():
    grey = encoded(Image.fromarray(RAMP), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(rgb(grey, TWELVE)[..., 0], 255 - (RAMP >> 4))


def test_an_image_that_is_open_is_shown_as_its_file_is():
    turned = encoded(RGB.resize((40, 20)), "TIFF", tiffinfo={274: 6})
    white_is_zero = encoded(Image.fromarray(RAMP), "TIFF", tiffinfo={262: 0})
    for data in (turned, white_is_zero):
        for pixels in (TWELVE, replace(TWELVE, exif_orientation=True)):
            with Image.open(io.BytesIO(data)) as image:
                np.testing.assert_array_equal(rgb_of(image, pixels), rgb(data, pixels))


def test_floating_point_images_need_a_setting():
    values = np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64)
    data = encoded(Image.fromarray(values), "TIFF")
    with pytest.raises(UnreadableError, match=r"floating-point.*data\.white_level"):
        rgb(data, look(data)[0])
    assert "data.white_level" in why_unreadable(lambda: data, AS_USUAL)
    shown = rgb(data, Pixels(white_level=1.0))
    np.testing.assert_array_equal(shown[..., 0], np.minimum(np.floor(values * 256), 255))
    values[0, 0] = np.nan
    assert rgb(encoded(Image.fromarray(values), "TIFF"), Pixels(white_level=1.0))[0, 0, 0] == 0


# ---- the first look ------------------------------------------------------------------------------


def test_turned_images_are_said():
    exif = Image.Exif()
    exif[274] = 6
    turned, straight = encoded(RGB, "JPEG", exif=exif), encoded(RGB, "JPEG")
    assert look(straight)[1] == []
    (note,) = look(turned, straight)[1]
    assert note.startswith("1 of 2") and "data.exif_orientation" in note
    assert look(turned, pixels=Pixels(exif_orientation=True))[1] == []


def test_the_first_look_passes_over_damaged_images():
    assert look(b"", b"<html>", encoded(RGB, "PNG")[:50]) == (AS_USUAL, [])


def test_the_first_look_measures_images():
    files = [encoded(Image.new("RGB", size), "PNG") for size in ((4, 6), (10, 2))]
    for some, area in (([*files, b"<html>"], 22.0), ([b""], 0.0), ([], 0.0)):
        assert first_look(lambda i, some=some: some[i], range(len(some)), AS_USUAL)[2] == area


def test_images_to_look_at_are_spread():
    assert evenly(0) == [] and evenly(3) == [0, 1, 2]
    spread = evenly(1000)
    assert len(spread) == 32 and spread[0] == 0 and spread[-1] == 999


# ---- reasons -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html>", r"no image: it begins with b'<!DOCTYPE"),
        (encoded(RGB, "JPEG")[:900], "damaged: .*truncated"),
        (encoded(RGB, "PNG")[:900], "damaged: .*truncated"),
        (encoded(RGB, "GIF")[:900], "damaged: .*truncated"),
        (encoded(RGB, "WEBP")[:200], "damaged: "),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC, which `pip install pillow-heif`"),
        (b"\xff\x0a" + bytes(90), "JPEG XL"),
        (deep_tiff(np.zeros((4, 4, 13), np.uint16), extra=(0,) * 10), "kind that Pillow does not"),
        (encoded(RGB, "PNG").replace(b"IDAT", b"\0\0\0\0"), "damaged"),
    ],
)
def test_why_an_image_cannot_be_read(data, reason):
    assert re.search(reason, why_unreadable(lambda: data, AS_USUAL))


def test_an_image_that_is_too_large_says_how_large(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    for kind in ("GIF", "TIFF"):
        assert (
            why_unreadable(lambda kind=kind: encoded(RGB, kind), AS_USUAL)
            == "too large: 875 pixels"
        )


def test_a_file_that_is_gone_or_a_record_that_is_damaged_has_a_reason():
    def raises(error):
        def read():
            raise error

        return read

    gone, damaged = FileNotFoundError(2, "No such file"), RuntimeError("record 3:\n checksum")
    assert why_unreadable(raises(gone), AS_USUAL) == "No such file"
    assert why_unreadable(raises(damaged), AS_USUAL) == "damaged: record 3: checksum"
