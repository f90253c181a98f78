import numpy as np
import pytest
from images import smooth

from swav_jax.data import resize


def _weights(length, size):
    """The triangle filter of each output pixel, as wide as an output pixel at least; [size, n]."""
    scale = length / size
    centre, position = (np.arange(size)[:, None] + 0.5) * scale, np.arange(length) + 0.5
    weights = np.maximum(0, 1 - np.abs(position - centre) / max(scale, 1))
    return weights / weights.sum(axis=1, keepdims=True)


def _exact(image, size):
    height, width, _ = image.shape
    rows, columns = _weights(height, size), _weights(width, size)
    return np.einsum("yh,hwc,xw->yxc", rows, image.astype(np.float64), columns, optimize=True)


def _cykooz():
    pytest.importorskip("cykooz_resizer")
    return resize.cykooz()


@pytest.mark.parametrize("library", [resize.pillow, _cykooz])
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(1, 1, 5), (1, 40, 16), (300, 2, 24), (7, 5, 32), (24, 24, 24), (90, 61, 24), (61, 4096, 32)],
)
def test_resized_is_the_triangle_filter_within_a_grey_level(library, height, width, size):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ours, exact = library()(noise, size), _exact(noise, size)
    assert ours.shape == (size, size, 3) and ours.dtype == np.uint8
    assert np.abs(ours - exact).max() < 1.05  # both passes round
    assert abs((ours - exact).mean()) < 0.06 + 1 / ours.size


def test_a_box_is_cut_before_it_is_resized():
    image = np.asarray(smooth(0, 30, 40))
    boxes = np.array([[0, 0, 30, 40], [5, 7, 1, 1], [3, 4, 20, 9]])
    crops = [np.zeros((size, size, 3), np.uint8) for size in (12, 8, 12)]
    resize.cut(image, boxes, crops)
    for crop, (top, left, height, width) in zip(crops, boxes, strict=True):
        box = image[top : top + height, left : left + width]
        assert np.abs(crop - _exact(box, len(crop))).max() < 1.05
