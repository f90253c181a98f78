"""Bytes of an image file to pixels: TensorFlow's decoders for JPEG and PNG, Pillow for the rest."""

import io

import numpy as np
from PIL import Image

from swav_jax.data.tf import tf


def decode(data: tf.Tensor) -> tf.Tensor:
    """Decodes the bytes of a JPEG, PNG, WebP, GIF (first frame) or BMP file, whatever its name.

    Grey, palette, CMYK and 16-bit images become 8-bit RGB, and alpha is dropped, as by Pillow's
    `convert("RGB")` (16 bits by their high byte). EXIF orientation is ignored, as by torchvision.

    Args:
        data: string [].

    Returns:
        uint8 [H, W, 3]; [0, 0, 3] if Pillow cannot read it.

    Raises:
        tf.errors.InvalidArgumentError: a damaged JPEG or PNG.
    """

    def jpeg() -> tf.Tensor:
        return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")

    def other() -> tf.Tensor:
        return tf.numpy_function(_decode_by_pillow, [data], tf.uint8, stateful=False)

    is_jpeg = tf.strings.substr(data, 0, 2) == b"\xff\xd8"
    is_png = tf.strings.substr(data, 0, 4) == b"\x89PNG"
    image = tf.cond(
        is_jpeg, jpeg, lambda: tf.cond(is_png, lambda: tf.io.decode_png(data, channels=3), other)
    )
    return tf.ensure_shape(image, [None, None, 3])


def _decode_by_pillow(data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except Exception:  # Pillow's decoders raise nearly anything on damaged files
        return np.empty((0, 0, 3), np.uint8)
