import jax
import numpy as np
import pytest
import tensorflow as tf
from images import smooth
from PIL import Image

from swav_jax.augment.crops import HALF, cut, multi_crop

cut = jax.jit(cut, static_argnums=2)

BOXES = np.array([(0, 0, 40, 50), (3, 7, 30, 20), (39, 49, 1, 1), (10, 0, 5, 50), (0, 11, 40, 3)])


@pytest.mark.parametrize("size", [8, 24, 61])
def test_levels_are_tensorflows_rounded_and_pillows_within_one(size):
    images = [smooth(number, 40, 50) for number in range(3)]
    pixels = np.stack([np.asarray(image) for image in images])
    found = np.asarray(cut(pixels, np.stack([BOXES] * 3), size))
    assert found.dtype == np.uint8 and found.shape == (3, 5, size, size, 3)
    for image, some in zip(images, found.astype(int), strict=True):
        for crop, (top, left, height, width) in zip(some, BOXES, strict=True):
            part = image.crop((left, top, left + width, top + height))
            pillows = np.asarray(part.resize((size, size), Image.Resampling.BILINEAR)).astype(int)
            assert np.abs(crop - pillows).max() <= 1
            exact = tf.raw_ops.ScaleAndTranslate(
                images=np.asarray(part)[None],
                size=[size, size],
                scale=[size / height, size / width],
                translation=[0.0, 0.0],
                kernel_type="triangle",
                antialias=True,
            )[0]
            assert np.abs(crop - exact).max() < HALF + 1e-3


def test_each_resolution_gets_its_boxes():
    image = np.asarray(smooth(0, 40, 50))[None]
    large, small = jax.jit(multi_crop, static_argnums=2)(image, BOXES[None], ((2, 16), (3, 8)))
    np.testing.assert_array_equal(large, cut(image, BOXES[None, :2], 16))
    np.testing.assert_array_equal(small, cut(image, BOXES[None, 2:], 8))
