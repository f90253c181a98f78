"""Images of several sizes for crops on the devices: each on a square canvas of one size.

An image that is larger than the canvas has its crops cut by the host. They lie on the canvas side
by side, as tiles of their final size, which the devices' resizing leaves as they are.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int32, UInt8

from swav_jax.data.batch import CropSpecs
from swav_jax.data.crops import boxes_of
from swav_jax.data.resize import aligned, resized_boxes
from swav_jax.data.tf import tf

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


def on_canvases(
    images: Sequence[tf.Tensor], crops: CropSpecs, seeds: tf.Tensor, side: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images on canvases, with the boxes of the crops that `crops.multi_crop` cuts.

    Args:
      images: n of them, uint8 [H, W, 3] of any sizes.
      crops: `(count, size, min_scale, max_scale)` for each resolution.
      seeds: int64 [n, 2].
      side: C, from `canvas_side`.

    Returns:
      uint8 [n, C, C, 3] and int32 [n, V, 4].
    """

    def laid(boxes: np.ndarray, *images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return laid_out(images, boxes, crops, side)

    # One call of Python for all of them
    canvases, boxes = tf.numpy_function(
        laid, [boxes_of(images, crops, seeds), *images], [tf.uint8, tf.int32], stateful=False
    )
    views = sum(count for count, *_ in crops)
    return (
        tf.ensure_shape(canvases, [len(images), side, side, 3]),
        tf.ensure_shape(boxes, [len(images), views, 4]),
    )


def laid_out(
    images: Sequence[UInt8[np.ndarray, "_H _W 3"]],
    boxes: Int32[np.ndarray, "n V 4"],
    crops: CropSpecs,
    side: int,
) -> tuple[UInt8[np.ndarray, "n C C 3"], Int32[np.ndarray, "n V 4"]]:
    """Canvases with the images or, of those that are too large, their crops; and all boxes there.

    Args:
      images: of any sizes.
      boxes: of their crops.
      crops: `(count, size, min_scale, max_scale)` for each resolution.
      side: C, from `canvas_side`.
    """
    canvases, boxes = aligned((len(images), side, side, 3)), boxes.copy()
    for canvas, places, image in zip(canvases, boxes, images, strict=True):
        height, width, _ = image.shape
        if max(height, width) <= side:
            canvas[:height, :width] = image
            canvas[:height, width:] = canvas[height:] = 0
            continue
        cut = resized_boxes([image], places[None], [crop[:2] for crop in crops])
        places[:] = tiles(crops, side)
        canvas[:] = 0
        views = itertools.chain.from_iterable(kind[0] for kind in cut)
        for view, (top, left, size, _) in zip(views, places, strict=True):
            canvas[top : top + size, left : left + size] = view
    return canvases, boxes
