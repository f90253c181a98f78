import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pixels import RGB, SMOOTH, encoded

from swav_jax.data.sources.decode import decode


def _decode(data):
    return tf.data.Dataset.from_tensors(data).map(decode).get_single_element().numpy()


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (RGB, "JPEG"),
        (RGB.convert("L"), "JPEG"),
        (RGB.convert("CMYK"), "JPEG"),
        (RGB, "PNG"),
        (RGB.convert("1"), "PNG"),
        (RGB.convert("L"), "PNG"),
        (RGB.convert("LA"), "PNG"),
        (RGB.convert("RGBA"), "PNG"),
        (RGB.quantize(16), "PNG"),
        (RGB, "WEBP"),
        (RGB.convert("RGBA"), "WEBP"),
        (RGB, "GIF"),
        (RGB.convert("L"), "GIF"),
        (RGB, "BMP"),
        (RGB.convert("L"), "BMP"),
        (RGB.quantize(16), "BMP"),
    ],
    ids=lambda x: x if isinstance(x, str) else x.mode,
)
def test_every_format_and_mode_decodes_to_pillows_rgb(image, kind):
    data = encoded(image, kind)
    ours, pillows = _decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert ours.dtype == np.uint8 and ours.shape == (25, 35, 3)
    assert np.abs(ours.astype(int) - pillows).max() <= 1


def test_16_bits_keep_their_high_byte():
    deep = (SMOOTH[..., 0].astype(np.uint16) << 8) + 77
    ours = _decode(encoded(Image.fromarray(deep), "PNG"))
    np.testing.assert_array_equal(ours, np.repeat(SMOOTH[..., :1], 3, axis=-1))


def test_of_an_animation_the_first_frame_isread():
    frames = [RGB, Image.new("RGB", RGB.size, "red")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(
        _decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    )
