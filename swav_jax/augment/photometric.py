"""Augmentation on the device: flip, colour jitter, greyscale, blur, normalisation.

The operations are those of torchvision and Pillow, in floating point. They see images as planes,
[3, ..., S, S] with values from 0 to 1: colour arithmetic then runs over whole planes, which is
several times faster than over triples of channels. `...` are the images, [B, n] in training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from swav_jax import keys
from swav_jax.ops.precision import full_einsum

MEAN = (0.485, 0.456, 0.406)
STD = (0.228, 0.224, 0.225)  # not the usual 0.229: the published weights were trained with this

OPERATIONS = ("flip", "jitter", "grey", "blur")
BRIGHTNESS, CONTRAST, SATURATION = range(3)  # the blends of `jitter`, as its `order` counts them


@dataclass(frozen=True)
class Augment:
    """What may happen to a crop; the defaults are SwAV's (Caron et al., 2020)."""

    flip: float = 0.5  # probability, as for jitter, grey and blur; 0 leaves the operation out
    jitter: float = 0.8
    brightness: float = 0.8  # factors of jitter lie within 1 -+ strength, and are never negative
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2  # at most 0.5, in turns of the colour wheel
    grey: float = 0.2
    blur: float = 0.5
    blur_radius: tuple[float, float] = (0.1, 2.0)  # standard deviation in pixels
    blur_reference_size: int = 0  # the radius is for crops of this size; 0: for crops of any size
    order: tuple[str, ...] = OPERATIONS
    mean: tuple[float, ...] = MEAN  # of red, green and blue, or one number for all of them
    std: tuple[float, ...] = STD

    def __post_init__(self) -> None:
        if not set(self.order) <= set(OPERATIONS) or len(set(self.order)) < len(self.order):
            raise ValueError(
                f"augment.order is {self.order}; it names some of {', '.join(OPERATIONS)}, each "
                "once"
            )
        if len(self.blur_radius) != 2 or self.blur_radius[0] > self.blur_radius[1]:
            raise ValueError(
                f"augment.blur_radius is {self.blur_radius}; it is (smallest, largest)"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3):
                raise ValueError(
                    f"augment.{name} is {values}; it has a number for red, green and blue each, "
                    "or one for all of them"
                )


class Draw(NamedTuple):
    """The random draws for each image; an operation that is not applied has neutral values."""

    flip: Bool[Array, "*N"]
    factors: Float[Array, "*N 3"]  # of brightness, contrast and saturation
    order: Int[Array, "*N 3"]  # a permutation of those three
    hue: Float[Array, "*N"]
    hue_after: Int[Array, "*N"]  # how many of those three come before the hue, 0 to 3
    grey: Bool[Array, "*N"]
    sigma: Float[Array, "*N"]  # of the blur, in pixels of a crop of the reference size


def augment(
    crops: Sequence[UInt8[Array, "B _n _S _S 3"]],
    sample: Int[Array, "B"],
    *,
    seed: int,
    epoch: int | Int[Array, ""],
    settings: Augment,
) -> tuple[Float[Array, "B _n _S _S 3"], ...]:
    """Augments every crop independently.

    What happens to a crop depends on the seed, the epoch, the sample and the crop's number among
    all crops of the image, and on nothing else: neither its place in the batch nor the devices.

    Args:
      crops: one array for each size of crops.
      sample: a number for each image and each time that the epoch draws it, see `train_batches`.
      seed: of the run.
      epoch: may be traced.
      settings: what may happen.

    Returns:
      The crops, normalised float32.
    """
    epoch_key = keys.at(seed, "images", epoch)
    image_keys = jax.vmap(random.fold_in, (None, 0))(epoch_key, sample)
    number = jnp.arange(sum(images.shape[1] for images in crops))
    crop_keys = jax.vmap(jax.vmap(random.fold_in, (None, 0)), (0, None))(image_keys, number)
    drawn = jax.vmap(jax.vmap(partial(draw, settings=settings)))(crop_keys)

    first, augmented = 0, []
    for images in crops:
        count, size = images.shape[1], images.shape[-2]
        here = jax.tree.map(lambda x, first=first, end=first + count: x[:, first:end], drawn)
        scale = size / settings.blur_reference_size if settings.blur_reference_size else 1.0
        planes = apply(to_planes(images), here, settings, blur_scale=scale)
        augmented.append(normalise(from_planes(planes), settings.mean, settings.std))
        first += count
    return tuple(augmented)


def draw(key: Key[Array, ""], settings: Augment) -> Draw:
    """Draws all of an image's random numbers at once: each call of the generator is compiled."""
    # Float32 whatever the default, so that a key always draws the same.
    uniform = random.uniform(key, (13,), jnp.float32)
    chances, between, ranks, (hue, hue_after, sigma) = jnp.split(uniform, (4, 7, 10))

    probabilities = settings.flip, settings.jitter, settings.grey, settings.blur
    flipped, jittered, greyed, blurred = chances < np.asarray(probabilities, np.float32)
    strength = np.asarray([settings.brightness, settings.contrast, settings.saturation], np.float32)
    least = np.maximum(1 - strength, 0)
    factors = least + (1 + strength - least) * between
    low, high = settings.blur_radius
    return Draw(
        flip=flipped,
        factors=jnp.where(jittered, factors, 1),
        order=jnp.argsort(ranks),
        hue=jnp.where(jittered, settings.hue * (2 * hue - 1), 0),
        hue_after=(4 * hue_after).astype(jnp.int32),
        grey=greyed,
        sigma=jnp.where(blurred, low + (high - low) * sigma, 0),
    )


def apply(
    images: Float[Array, "3 *N S S"], drawn: Draw, settings: Augment, *, blur_scale: float
) -> Float[Array, "3 *N S S"]:
    """Applies what was drawn, in the order of the settings; probability 0 costs nothing."""
    blur_reach = ceil(3 * blur_scale * settings.blur_radius[1])
    operations: dict[str, Callable[[Array], Array]] = {
        "flip": lambda images: flip(images, drawn.flip),
        "jitter": lambda images: jitter(images, drawn),
        "grey": lambda images: saturation(images, jnp.where(drawn.grey, 0.0, 1.0)),
        "blur": lambda images: gaussian_blur(images, blur_scale * drawn.sigma, blur_reach),
    }
    for name in settings.order:
        if getattr(settings, name):
            images = operations[name](images)
    return images


def to_planes(images: UInt8[Array, "*N S S 3"]) -> Float[Array, "3 *N S S"]:
    """Values from 0 to 255 become float32 from 0 to 1."""
    return jnp.moveaxis(images, -1, 0).astype(jnp.float32) / 255


def from_planes(images: Float[Array, "3 *N S S"]) -> Float[Array, "*N S S 3"]:
    """Channels last, as networks want them."""
    return jnp.moveaxis(images, 0, -1)


def normalise(
    images: Float[Array, "*N S S 3"], mean: Sequence[float] = MEAN, std: Sequence[float] = STD
) -> Float[Array, "*N S S 3"]:
    """Subtracts the mean of each channel, or of all, and divides by the standard deviation."""
    shape = (1,) * (images.ndim - 1) + (-1,)
    offset, scale = (np.asarray(x, images.dtype).reshape(shape) for x in (mean, std))
    return (images - offset) / scale


def flip(images: Float[Array, "3 *N S S"], flipped: Bool[Array, "*N"]) -> Float[Array, "3 *N S S"]:
    """Mirrors left and right where asked."""
    return jnp.where(_each(flipped)[None], images[..., ::-1], images)


def brightness(
    images: Float[Array, "3 *N S S"], factor: Float[Array, "*N"]
) -> Float[Array, "3 *N S S"]:
    """Moves away from black (factor above 1) or towards it."""
    return _blend(images, jnp.zeros_like(images[0]), factor)


def contrast(
    images: Float[Array, "3 *N S S"], factor: Float[Array, "*N"]
) -> Float[Array, "3 *N S S"]:
    """Moves away from the image's mean luma (factor above 1) or towards it."""
    return _blend(images, _mean_luma(images), factor)


def saturation(
    images: Float[Array, "3 *N S S"], factor: Float[Array, "*N"]
) -> Float[Array, "3 *N S S"]:
    """Moves away from greyscale (factor above 1) or towards it; 0 is greyscale."""
    return _blend(images, _luma(images), factor)


def hue(images: Float[Array, "3 *N S S"], turns: Float[Array, "*N"]) -> Float[Array, "3 *N S S"]:
    """Rotates the hue in HSV space, where value and chroma stay as they are."""
    red, green, blue = images
    value = jnp.max(images, axis=0)
    chroma = value - jnp.min(images, axis=0)
    inverse = 1 / jnp.where(chroma > 0, chroma, 1)
    sixths = jnp.where(
        value == red,
        (green - blue) * inverse,
        jnp.where(value == green, 2 + (blue - red) * inverse, 4 + (red - green) * inverse),
    )
    # A channel falls from the value by the chroma times a trapezoid of the hue; the trapezoids of
    # red, green and blue are a third of a turn apart.
    phase = np.array([5, 3, 1], images.dtype).reshape(3, *[1] * sixths.ndim)
    sixths = (sixths + 6 * _each(turns))[None] + phase
    sixths -= 6 * jnp.floor(sixths / 6)
    return value[None] - chroma[None] * jnp.clip(jnp.minimum(sixths, 4 - sixths), 0, 1)


def jitter(images: Float[Array, "3 *N S S"], drawn: Draw) -> Float[Array, "3 *N S S"]:
    """Brightness, contrast, saturation and hue, in the drawn order of each image.

    The first three are blends, x f + (1 - f) reference, so in each of three rounds an image chooses
    its reference. The hue, the costly one, comes once between two times three rounds; of the two
    blends in the same place one has a factor of 1.
    """

    def blend_one(images: Array, chosen: tuple[Array, Array]) -> tuple[Array, None]:
        operation, factor = chosen
        reference = jnp.where(_each(operation == CONTRAST), _mean_luma(images), _luma(images))
        reference = jnp.where(_each(operation == BRIGHTNESS), 0, reference)
        return _blend(images, reference, factor), None

    def blend_all(images: Array, where: Bool[Array, "*N 3"]) -> Array:
        rounds = jnp.moveaxis(drawn.order, -1, 0), jnp.moveaxis(jnp.where(where, factors, 1), -1, 0)
        # A loop, because its steps are bounds to XLA's fusion: on CPU twice as fast as unrolled.
        return lax.scan(blend_one, images, rounds)[0]

    factors = jnp.take_along_axis(drawn.factors, drawn.order, axis=-1)
    position = jnp.arange(3).reshape((1,) * (factors.ndim - 1) + (3,))
    before_hue = position < drawn.hue_after[..., None]
    images = blend_all(images, before_hue)
    images = hue(images, drawn.hue)
    return blend_all(images, ~before_hue)


def gaussian_blur(
    images: Float[Array, "3 *N S S"], sigma: Float[Array, "*N"], reach: int
) -> Float[Array, "3 *N S S"]:
    """Convolves rows and columns with a Gaussian; border pixels are repeated outside.

    Args:
      images: of any size.
      sigma: standard deviation in pixels; 0 leaves an image as it is.
      reach: the Gaussian is cut off this many pixels from its centre.
    """
    offsets = np.arange(-reach, reach + 1).reshape((1,) * sigma.ndim + (-1,))
    # Far below a pixel the Gaussian's weights are exactly 0 but for the centre's 1.
    width = jnp.maximum(sigma, 1e-3)[..., None]
    weights = jnp.exp(-0.5 * (offsets.astype(images.dtype) / width) ** 2)
    weights /= jnp.sum(weights, axis=-1, keepdims=True)
    return lax.platform_dependent(images, weights, tpu=blur_by_products, default=blur_by_shifts)


def blur_by_shifts(
    images: Float[Array, "3 *N S S"], weights: Float[Array, "*N T"]
) -> Float[Array, "3 *N S S"]:
    """Weighted sums of the images shifted by -T // 2 to T // 2 pixels, along columns, then rows."""
    count = weights.shape[-1]
    reach = count // 2
    for axis in (images.ndim - 2, images.ndim - 1):
        size = images.shape[axis]
        border = [(reach, reach) if i == axis else (0, 0) for i in range(images.ndim)]
        padded = jnp.pad(images, border, mode="edge")
        images = jnp.zeros_like(images)
        for i in range(count):
            shifted = lax.slice_in_dim(padded, i, i + size, axis=axis)
            images += _each(weights[..., i])[None] * shifted
    return images


def blur_by_products(
    images: Float[Array, "3 *N S S"], weights: Float[Array, "*N T"]
) -> Float[Array, "3 *N S S"]:
    """The same as products with a banded matrix for each image, which a TPU multiplies faster."""
    size, count = images.shape[-1], weights.shape[-1]
    seen = np.arange(size)[:, None] + np.arange(count) - count // 2
    onto = jax.nn.one_hot(np.clip(seen, 0, size - 1), size, dtype=weights.dtype)  # [S, T, S]
    matrices = full_einsum("...t,itj->...ij", weights, onto)
    images = full_einsum("...ij,c...jk->c...ik", matrices, images)
    return full_einsum("...kj,c...ij->c...ik", matrices, images)


def _blend(
    images: Float[Array, "3 *N S S"],
    reference: Float[Array, "*N #S #S"],
    factor: Float[Array, "*N"],
) -> Float[Array, "3 *N S S"]:
    factor = _each(factor)
    return jnp.clip(factor[None] * images + ((1 - factor) * reference)[None], 0, 1)


def _luma(images: Float[Array, "3 *N S S"]) -> Float[Array, "*N S S"]:
    """Greyscale of ITU-R 601, as Pillow's."""
    red, green, blue = images
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _mean_luma(images: Float[Array, "3 *N S S"]) -> Float[Array, "*N 1 1"]:
    """The mean of luma, or on a TPU the luma of means, for which luma need not be written."""
    return lax.platform_dependent(
        images, tpu=lambda x: _luma(_mean(x)), default=lambda x: _mean(_luma(x))
    )


def _mean(planes: Float[Array, "*N S S"]) -> Float[Array, "*N 1 1"]:
    return jnp.mean(planes, axis=(-2, -1), keepdims=True)


def _each(x: Array) -> Array:
    """A value for each image, made to broadcast over its pixels."""
    return x[..., None, None]
