"""Boxes of random crops without TensorFlow: the same boxes for the same seed as the host's crops.

TensorFlow's `stateless_uniform` is Philox4x32-10 (Salmon et al., 2011) after one call of it that
mixes the seed, so that its numbers can be had anywhere.
"""

import math

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt32

from swav_jax.data.batch import CropSpecs

TRIES = 10  # of a random crop, before the central fallback; torchvision's number
MIN_ASPECT, MAX_ASPECT = 3 / 4, 4 / 3  # width / height; torchvision's default

ROUNDS = 10
MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
KEY_STEPS = np.array([0x9E3779B9, 0xBB67AE85], np.uint32)
SEED_KEY = np.array([0x3EC8F720, 0x02461E29], np.uint32)  # by which TensorFlow mixes a seed


def crop_boxes(
    seeds: Int64[np.ndarray, "B 2"], image_size: tuple[int, int], crops: CropSpecs
) -> Int32[np.ndarray, "B V 4"]:
    """The boxes that `crops.boxes_of` draws for these seeds, for images of one size.

    Args:
      seeds: of each image.
      image_size: height and width in pixels.
      crops: `(count, size, min_scale, max_scale)` for each resolution.

    Returns:
      top, left, height, width of each crop, of all resolutions in order.
    """
    counts = [count for count, *_ in crops]
    low, high = (np.repeat([crop[k] for crop in crops], counts) for k in (2, 3))
    images, views = len(seeds), len(low)
    key, stream = mixed(seeds)
    boxes = np.tile(central_box(image_size), (images, views, 1))
    image, view = (np.ravel(n) for n in np.indices((images, views)))  # of crops without a box yet
    for attempt in range(TRIES):
        uniform = uniforms(key[image], stream[image], view * TRIES + attempt)
        tried, fits = one_try(uniform, image_size, low[view], high[view])
        boxes[image[fits], view[fits]] = tried[fits]
        image, view = image[~fits], view[~fits]
        if not image.size:
            break
    return boxes


def one_try(
    uniform: Float64[np.ndarray, "n 4"],
    image_size: tuple[int, int],
    low: Float64[np.ndarray, " n"],
    high: Float64[np.ndarray, " n"],
) -> tuple[Int32[np.ndarray, "n 4"], np.ndarray]:
    """One try of RandomResizedCrop for each crop, and whether it fits; as `crops.random_boxes`."""
    size = np.array(image_size, np.float64)
    log_aspects = math.log(MIN_ASPECT), math.log(MAX_ASPECT)
    area = size.prod() * (low + (high - low) * uniform[:, 0])
    aspect = np.exp(log_aspects[0] + (log_aspects[1] - log_aspects[0]) * uniform[:, 1])
    box = np.round(np.sqrt(np.stack([area / aspect, area * aspect], axis=-1)))
    corner = np.floor(uniform[:, 2:] * (size - box + 1))
    fits = ((box > 0) & (box <= size)).all(axis=-1)
    return np.concatenate([corner, box], axis=-1).astype(np.int32), fits


def central_box(image_size: tuple[int, int]) -> Int32[np.ndarray, "4"]:
    """The largest central box of an allowed aspect, for crops of which no try fits."""
    size = np.array(image_size, np.float64)
    box = np.minimum(size, np.round(size[::-1] * [1 / MIN_ASPECT, MAX_ASPECT]))
    return np.concatenate([(size - box) // 2, box]).astype(np.int32)


def mixed(
    seeds: Int64[np.ndarray, "B 2"],
) -> tuple[UInt32[np.ndarray, "B 2"], UInt32[np.ndarray, "B 2"]]:
    """The key and the number of the stream of random numbers that each seed stands for."""
    words = np.ascontiguousarray(seeds, "<i8").view("<u4")  # [B, 4]
    mix = philox(np.broadcast_to(SEED_KEY, (len(seeds), 2)), words)
    return mix[:, :2], mix[:, 2:]


def uniforms(
    key: UInt32[np.ndarray, "n 2"], stream: UInt32[np.ndarray, "n 2"], number: np.ndarray
) -> Float64[np.ndarray, "n 4"]:
    """Four numbers in [0, 1): those at 4 * number and after it in each stream."""
    halves = []
    for block in (2 * number, 2 * number + 1):
        counter = np.zeros((len(number), 4), np.uint32)
        counter[:, 0], counter[:, 2:] = block, stream
        words = philox(key, counter).astype(np.uint64).reshape(-1, 2, 2)
        mantissa = (words[..., 0] & np.uint64(0xFFFFF)) << np.uint64(32) | words[..., 1]
        halves.append((mantissa | np.uint64(1023 << 52)).view(np.float64) - 1)
    return np.concatenate(halves, axis=-1)


def philox(
    key: UInt32[np.ndarray, "n 2"], counter: UInt32[np.ndarray, "n 4"]
) -> UInt32[np.ndarray, "n 4"]:
    """Philox4x32-10: a random block for each key and counter."""
    key, low, other = key.copy(), counter[:, ::2], counter[:, 1::2]
    for number in range(ROUNDS):
        if number:
            key += KEY_STEPS
        products = low * MULTIPLIERS  # uint32 * uint64
        upper = (products >> np.uint64(32)).astype(np.uint32)
        lower = products.astype(np.uint32)
        low, other = upper[:, ::-1] ^ other ^ key, lower[:, ::-1]
    return np.stack([low, other], axis=-1).reshape(-1, 4)
