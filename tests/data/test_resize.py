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


def test_boxes_are_cut_before_they_are_resized():
    images = [np.asarray(smooth(n, 30, 40 + n)) for n in range(2)]
    boxes = np.array(
        [
            [[0, 0, 30, 40], [5, 7, 1, 1], [2, 2, 9, 9]],
            [[29, 0, 1, 41], [3, 4, 20, 9], [0, 0, 8, 8]],
        ]
    )
    large, small = resize.resized_boxes(images, boxes, [(2, 12), (1, 8)])
    assert large.shape == (2, 2, 12, 12, 3) and small.shape == (2, 1, 8, 8, 3)
    for image, places, *views in zip(images, boxes, large, small, strict=True):
        for view, (top, left, height, width) in zip((*views[0], *views[1]), places, strict=True):
            box = image[top : top + height, left : left + width]
            assert np.abs(view - _exact(box, len(view))).max() < 1.05
