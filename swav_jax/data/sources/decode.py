"""Bytes of an image file to pixels: TensorFlow's decoders for plain JPEG and PNG, else Pillow."""

from functools import partial

import numpy as np

from swav_jax.data.sources.pixels import Pixels, on_background, open_image, rgb, stored_turn
from swav_jax.data.tf import python_function, tf

HEAD = 8192  # bytes in which the pixels of nearly every PNG begin
EXIF_HEAD = 1 << 17  # bytes in which a JPEG's EXIF data lie; a part of it has at most 64 KiB
# Of a PNG's head: 1, 2, 4 or 8 bits a channel, and where the pixels begin; alpha in each pixel, or
# for one colour or those of a palette.
PNG_OF_8_BITS = r"\CPNG\C{20}[\x01\x02\x04\x08]\C*IDAT\C*"
TRANSPARENT = r"\C{25}[\x04\x06]\C*|\C*tRNS\C*"
TURNED = r"\C*(eXIf|profile type exif|tiff:Orientation)\C*"  # maybe; it may come after the pixels


def decode(data: tf.Tensor, pixels: Pixels) -> tf.Tensor:
    """Decodes the bytes of an image file of any format that Pillow reads, whatever its name.

    Grey, palette and CMYK become RGB as by Pillow's `convert("RGB")`; for transparency and more
    than 8 bits see `Pixels`.

    Args:
      data: string [].
      pixels: how they become 8-bit RGB.

    Returns:
      uint8 [H, W, 3]; [0, 0, 3] if Pillow cannot read it.

    Raises:
      tf.errors.InvalidArgumentError: a damaged JPEG or PNG.
    """

    def jpeg() -> tf.Tensor:
        return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")

    def png() -> tf.Tensor:
        return tf.io.decode_png(data, channels=3)

    def transparent_png() -> tf.Tensor:
        image = tf.io.decode_png(data, channels=4)
        laid = partial(on_background, background=pixels.background)
        return python_function(laid, [image], tf.uint8, stateful=False)

    def other() -> tf.Tensor:
        by_pillow = partial(_by_pillow, pixels=pixels)
        return python_function(by_pillow, [data], tf.uint8, stateful=False)

    def no_jpeg() -> tf.Tensor:
        head = tf.strings.substr(data, 0, HEAD)
        is_png = tf.strings.regex_full_match(head, PNG_OF_8_BITS)
        if pixels.exif_orientation:
            is_png &= ~tf.strings.regex_full_match(data, TURNED)
        transparent = tf.strings.regex_full_match(head, TRANSPARENT)
        pngs = partial(tf.cond, transparent, transparent_png, png)
        return tf.cond(is_png, pngs, other)

    is_jpeg = tf.strings.substr(data, 0, 2) == b"\xff\xd8"
    if pixels.exif_orientation:
        head = tf.strings.substr(data, 0, EXIF_HEAD)
        turned = python_function(_is_turned, [head], tf.bool, stateful=False)
        is_jpeg &= ~tf.ensure_shape(turned, [])
    return tf.ensure_shape(tf.cond(is_jpeg, jpeg, no_jpeg), [None, None, 3])


def _by_pillow(data: bytes | np.ndarray, pixels: Pixels) -> np.ndarray:
    try:
        return rgb(_bytes(data), pixels)
    except Exception:  # Pillow's decoders raise nearly anything on damaged files
        return np.empty((0, 0, 3), np.uint8)


def _is_turned(head: bytes | np.ndarray) -> np.bool_:
    """Whether the EXIF data at the head of a file say that its pixels are stored turned."""
    try:
        with open_image(_bytes(head)) as image:
            return np.bool_(stored_turn(image) is not None)
    except Exception:  # Pillow decides when it decodes the whole
        return np.bool_(True)


def _bytes(data: bytes | np.ndarray) -> bytes:
    """What `tf.numpy_function` hands over: bytes within a graph, an array outside of one."""
    return data if isinstance(data, bytes) else data.item()
