"""Images of several sizes for crops on the devices: each on a square canvas of one size.

An image that is larger than the canvas has its crops cut by the host. They lie on the canvas side
by side, as tiles of their final size, which the devices' resizing leaves as they are.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int32, UInt8

from swav_jax.data.batch import CropSpecs
from swav_jax.data.resize import cut

LARGEST = 512  # pixels: most photos of ImageNet fit, and a canvas takes 0.8 MB


def canvas_side(crops: CropSpecs, image_sizes: Iterable[tuple[int, int]]) -> int:
    """C, the least side of a square that has room for all crops' tiles and for these images.

    Images of more than LARGEST pixels get no room.

    Args:
      crops: `(count, size, min_scale, max_scale)` for each resolution.
      image_sizes: heights and widths.
    """
    longest = max(max(size) for size in [(1, 1), *image_sizes])
    least = max(min(longest, LARGEST), *(size for _, size, *_ in crops))
    return next(side for side in itertools.count(least) if _height(tiles(crops, side)) <= side)


def tiles(crops: CropSpecs, side: int) -> Int32[np.ndarray, "V 4"]:
    """Boxes of the crops' final sizes beside and below each other, `side` pixels wide."""
    top, boxes = 0, []
    for count, size, *_ in crops:
        across = side // size
        boxes += [(top + k // across * size, k % across * size, size, size) for k in range(count)]
        top = _height(np.array(boxes))
    return np.array(boxes, np.int32)


def _height(boxes: np.ndarray) -> int:
    """The lowest row below the boxes."""
    return int((boxes[:, 0] + boxes[:, 2]).max())


def lay_out(
    images: Sequence[UInt8[np.ndarray, "_H _W 3"]],
    boxes: Int32[np.ndarray, "n V 4"],
    crops: CropSpecs,
    canvases: UInt8[np.ndarray, "n C C 3"],
) -> Int32[np.ndarray, "n V 4"]:
    """Lays images onto canvases or, of those that are too large, their crops.

    Args:
      images: n of them, of any sizes.
      boxes: of their crops.
      crops: `(count, size, min_scale, max_scale)` for each resolution.
      canvases: of the side that `canvas_side` gives; what they hold is replaced.

    Returns:
      The boxes of all crops on the canvases.
    """
    boxes = boxes.copy()
    side = canvases.shape[1]
    for canvas, places, image in zip(canvases, boxes, images, strict=True):
        height, width, _ = image.shape
        if max(height, width) <= side:
            canvas[:height, :width] = image
            canvas[:height, width:] = canvas[height:] = 0
            continue
        laid = tiles(crops, side)
        canvas[:] = 0
        cut(image, places, [canvas[y : y + size, x : x + size] for y, x, size, _ in laid])
        places[:] = laid
    return boxes
