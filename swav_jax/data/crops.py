"""Random crops of images at several sizes, as torchvision's RandomResizedCrop, inside tf.data."""

import contextlib
import itertools
import math
import threading
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8

from swav_jax.data.batch import CropSpecs
from swav_jax.data.boxes import MAX_ASPECT, MIN_ASPECT, TRIES
from swav_jax.data.resize import cut
from swav_jax.data.tf import tf

# Python's lock changes hands at every resizing, which takes longer than to resize a small image:
# threads cut images of fewer pixels one after the other, while others read.
SMALL = 1 << 14
_cutting_small_ones = threading.Lock()


def cut_all(
    images: Sequence[UInt8[np.ndarray, "_H _W 3"]],
    boxes: Int[np.ndarray, "n V 4"],
    crops: Sequence[UInt8[np.ndarray, "n _count _S _S 3"]],
) -> None:
    """Cuts the boxes of some images and resizes them into their crops.

    Args:
      images: n of them, of any sizes.
      boxes: from `boxes_of`.
      crops: of each resolution; what they hold is replaced.
    """
    small = max(image.size for image in images) <= 3 * SMALL
    with _cutting_small_ones if small else contextlib.nullcontext():
        for image, places, *views in zip(images, boxes, *crops, strict=True):
            cut(image, places, itertools.chain.from_iterable(views))


def boxes_of(images: Sequence[tf.Tensor], crops: CropSpecs, seeds: tf.Tensor) -> tf.Tensor:
    """Random boxes of crops; those of an image depend on it and its seed alone.

    Args:
      images: n of them, uint8 [H, W, 3] of any sizes.
      crops: `(count, size, min_scale, max_scale)` for each resolution.
      seeds: int64 [n, 2].

    Returns:
      int32 [n, V, 4]: top, left, height, width, of all resolutions in order.
    """
    counts = [count for count, *_ in crops]
    low, high = (np.repeat([c[k] for c in crops], counts)[:, None] for k in (2, 3))
    uniform = tf.stack(
        [_uniform([sum(counts), TRIES, 4], seed) for seed in tf.unstack(seeds, len(images))]
    )
    image_sizes = tf.stack([tf.shape(image)[:2] for image in images])
    return random_boxes(uniform, image_sizes, low, high)


def _uniform(shape: Sequence[int], seed: tf.Tensor) -> tf.Tensor:
    """`tf.random.stateless_uniform` without its multiplication by 1 and addition of 0."""
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    return tf.raw_ops.StatelessRandomUniformV2(
        shape=shape,
        key=key,
        counter=counter,
        alg=tf.random.Algorithm.PHILOX.value,
        dtype=tf.float64,
    )


def random_boxes(
    uniform: tf.Tensor, image_size: tf.Tensor, min_scale: np.ndarray, max_scale: np.ndarray
) -> tf.Tensor:
    """The boxes of RandomResizedCrop (Szegedy et al. 2015, as in torchvision).

    Of ten tries, area ~ U(min_scale, max_scale) of the image and log(width / height) ~
    U(log 3/4, log 4/3), the first that fits is placed uniformly; if none fits, the box is the
    largest central one with an aspect in that range.

    Args:
      uniform: float64 [..., n, tries, 4] in [0, 1): area, aspect, top and left of each try.
      image_size: int32 [..., 2], height and width.
      min_scale: smallest share of the image's area, float64 [n, 1].
      max_scale: largest share, float64 [n, 1].

    Returns:
      int32 [..., n, 4]: top, left, height, width.
    """
    size = tf.cast(image_size, tf.float64)[..., None, None, :]
    log_aspects = math.log(MIN_ASPECT), math.log(MAX_ASPECT)
    shares = min_scale + (max_scale - min_scale) * uniform[..., 0]
    area = tf.reduce_prod(size, axis=-1) * shares
    aspect = tf.exp(log_aspects[0] + (log_aspects[1] - log_aspects[0]) * uniform[..., 1])
    box = tf.round(tf.sqrt(tf.stack([area / aspect, area * aspect], axis=-1)))  # [..., tries, 2]
    corner = tf.floor(uniform[..., 2:] * (size - box + 1))

    fits = tf.reduce_all((box > 0) & (box <= size), axis=-1)  # [..., n, tries]
    first = tf.argmax(tf.cast(fits, tf.int32), axis=-1)  # of equal values the first
    tried = tf.concat([corner, box], axis=-1)
    chosen = tf.gather(tried, first, batch_dims=first.shape.rank)

    largest = tf.round(size[..., ::-1] * [1 / MIN_ASPECT, MAX_ASPECT])  # for the full other side
    fallback = tf.minimum(size, largest)
    central = tf.concat([(size - fallback) // 2, fallback], axis=-1)[..., 0, :]
    return tf.cast(tf.where(tf.reduce_any(fits, axis=-1)[..., None], chosen, central), tf.int32)


def central_crop(image: tf.Tensor, resize: int, crop: int) -> tf.Tensor:
    """Resize(shorter side) and CenterCrop in one resampling: uint8 [H, W, 3] -> [S, S, 3]."""
    if not resize and not crop:
        return image
    size = tf.shape(image)[:2]
    shorter = tf.reduce_min(size)
    resized = size * resize // shorter if resize else size
    corner = tf.round((tf.cast(resized, tf.float64) - (crop or resize)) / 2)
    scale = tf.cast(resized / size, tf.float32)
    shift = -tf.cast(corner, tf.float32)
    levels = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=[crop or resize] * 2,
        scale=scale,
        translation=shift,
        kernel_type="triangle",
        antialias=True,
    )[0]
    return tf.cast(levels + 0.5, tf.uint8)  # means of grey levels, so within 0..255
