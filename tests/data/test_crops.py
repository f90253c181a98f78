import numpy as np
import pytest
import tensorflow as tf
from images import smooth
from PIL import Image

from swav_jax.data import crops


def _boxes(height, width, low, high, count=20_000, seed=0):
    uniform = tf.random.stateless_uniform([count, 10, 4], [seed, 0], dtype=tf.float64)
    low, high = np.full((count, 1), low), np.full((count, 1), high)
    return crops.random_boxes(uniform, tf.constant([height, width]), low, high).numpy()


def test_boxes_lie_in_the_image_and_in_the_scales():
    top, left, height, width = _boxes(300, 400, 0.1, 0.5).T
    assert top.min() == 0 and (top + height).max() == 300
    assert left.min() == 0 and (left + width).max() == 400
    area = height * width / (300 * 400)
    assert 0.095 < area.min() < 0.105 and 0.49 < area.max() < 0.51
    aspect = np.log(width / height)
    assert abs(np.median(aspect)) < 0.01
    assert np.all(np.abs(aspect) < np.log(4 / 3) + 0.02) and np.abs(aspect).max() > 0.28


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (10, 20_000, (0, 9993, 10, 13)),  # the central 4:3
        (20_000, 10, (9993, 0, 13, 10)),  # the central 3:4
        (1, 1, (0, 0, 1, 1)),
    ],
)
def test_where_no_try_fits_the_box_is_central(height, width, box):
    assert np.all(_boxes(height, width, 0.14, 1.0, count=50) == box)


def test_each_image_is_cut_by_its_own_boxes_in_the_order_of_the_resolutions():
    images = [np.asarray(smooth(n, 30, 40 + n)) for n in range(2)]
    boxes = np.array([[[0, 0, 30, 40], [5, 7, 12, 8]], [[29, 0, 1, 41], [3, 4, 20, 9]]], np.int32)
    large, small = (np.zeros((2, 1, size, size, 3), np.uint8) for size in (12, 8))
    crops.cut_all(images, boxes, [large, small])
    for image, places, views in zip(images, boxes, zip(large, small, strict=True), strict=True):
        for (view,), (top, left, height, width) in zip(views, places, strict=True):
            box = Image.fromarray(image[top : top + height, left : left + width])
            pillows = np.asarray(box.resize((len(view),) * 2, Image.Resampling.BILINEAR))
            assert np.abs(view.astype(int) - pillows).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(60, 91), (91, 60), (33, 33), (35, 200)])
def test_central_crop_is_pillows_resize_and_crop(height, width):
    image = smooth(0, height, width)
    scale = 40 / min(height, width)
    resized = image.resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 32) / 2), round((resized.height - 32) / 2)
    pillows = np.asarray(resized.crop((left, top, left + 32, top + 32))).astype(int)
    ours = crops.central_crop(tf.constant(np.asarray(image)), 40, 32).numpy()
    assert np.abs(ours - pillows).mean() < 0.5 and np.abs(ours - pillows).max() <= 2
