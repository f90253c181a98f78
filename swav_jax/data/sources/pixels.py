"""Bytes of an image file to 8-bit RGB by Pillow: any format, depth and kind of transparency."""

import io
import math
import sys
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import Image, ImageColor, ImageFile

from swav_jax.data.sources.formats import TGA, readable, unread_format

ORIENTATION = 274  # the EXIF tag: how to turn the stored pixels
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LOOKED_AT = 32  # images of a kind, for what all are to have in common
SAMPLES_PER_PIXEL, PHOTOMETRIC, WHITE_IS_ZERO = 277, 262, 0  # of TIFF

# Pillow's doubts about files that it reads all the same.
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadableError(ValueError):
    """An image that has no pixels that could be shown, and why."""


@dataclass(frozen=True)
class Pixels:
    """How stored pixels become 8-bit RGB.

    Attributes:
      background: what transparent pixels lie on, a colour as CSS names it; "" drops alpha.
      white_level: the value that is white in images of more than 8 bits; 0 if none is known.
      exif_orientation: whether images are turned as their EXIF data say. TIFFs always are.
    """

    background: str = "white"
    white_level: float = 0.0
    exif_orientation: bool = False


AS_USUAL = Pixels()


def rgb(data: bytes, pixels: Pixels) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes an image: the first one of its file.

    What is not shown of it is said in the log, once for each kind.

    Raises:
      UnreadableError: its values have no known meaning.
      Exception: whatever Pillow raises for a damaged image.
    """
    with open_image(data) as image:
        turn = stored_turn(image) if pixels.exif_orientation else None
        _say_what_is_dropped(image)
        inverted = _tiff_tag(image, PHOTOMETRIC) == WHITE_IS_ZERO
        values = deep_values(image, data)
        if values is None:
            flat = _without_alpha(image, pixels.background)
        else:
            flat = _without_alpha(_eight_bits(values, pixels, inverted), pixels.background)
    return np.asarray(flat if turn is None else flat.transpose(turn))


def rgb_of(image: Image.Image, pixels: Pixels) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of an image that is open already, as `rgb` shows them.

    Raises:
      UnreadableError: its values have no known meaning.
    """
    image.load()  # which turns a TIFF, so that its data no longer say to
    turn = TURNS.get(image.getexif().get(ORIENTATION, 1)) if pixels.exif_orientation else None
    if _is_deep(image):
        inverted = _tiff_tag(image, PHOTOMETRIC) == WHITE_IS_ZERO
        image = _eight_bits(np.asarray(image), pixels, inverted)
    flat = _without_alpha(image, pixels.background)
    return np.asarray(flat if turn is None else flat.transpose(turn))


def open_image(data: bytes) -> ImageFile.ImageFile:
    """Opens an image of any format that is meant to be read; its pixels are not decoded yet."""
    return Image.open(io.BytesIO(data), formats=(*readable(), TGA))


def stored_turn(image: Image.Image) -> Image.Transpose | None:
    """How an image is to be turned, by its EXIF data; None for TIFFs, which Pillow turns itself."""
    return None if image.format == "TIFF" else TURNS.get(image.getexif().get(ORIENTATION, 1))


def why_unreadable(read: Callable[[], bytes], pixels: Pixels) -> str:
    """Why an image cannot be read or decoded, in a few words.

    Args:
      read: gives the bytes of its file.
      pixels: as of `rgb`.
    """
    data = b""
    try:
        data = read()
        rgb(data, pixels)
    except UnreadableError as reason:
        return str(reason)
    except Image.DecompressionBombError as error:
        size = str(error).partition("(")[2].partition(")")[0]
        return f"too large: {size}"
    except Image.UnidentifiedImageError:
        if not data:
            return "the file is empty"
        return unread_format(data) or (
            "damaged, or of a kind that Pillow does not read"
            if _begins_like_an_image(data)
            else f"no image: it begins with {data[:12]!r}"
        )
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        return f"damaged: {' '.join(str(error).split()) or type(error).__name__}"
    return "damaged: TensorFlow's decoder does not read it"


def _begins_like_an_image(data: bytes) -> bool:
    accepts = (Image.OPEN[format][1] for format in readable())
    return any(accept and accept(data[:16]) is True for accept in accepts)


def evenly(count: int) -> list[int]:
    """Up to LOOKED_AT of the numbers below `count`, evenly spread."""
    return sorted({*np.linspace(0, count - 1, LOOKED_AT).astype(int).tolist()}) if count else []


def first_look(
    read: Callable[[int], bytes], numbers: Iterable[int], pixels: Pixels
) -> tuple[Pixels, list[str], float]:
    """Looks at some images of a data set for what all of them are to have in common.

    Args:
      read: image number -> the bytes of its file.
      numbers: of the images to look at.
      pixels: as configured.

    Returns:
      With the white level of all images of more than 8 bits, if any are: of the powers of two less
      1, the smallest that no value exceeds. Then what a user should know, and the mean number of
      pixels of those that could be opened, or 0.
    """

    def look(number: int) -> tuple[float, bool, int]:
        try:
            data = read(number)
            with open_image(data) as image:
                turned = stored_turn(image) is not None
                find = not pixels.white_level and image.mode != "F"
                values = deep_values(image, data) if find else None
                largest = 0.0 if values is None else float(_colours(values).max())
                return largest, turned, math.prod(image.size)
        except Exception:  # it will be named when its turn comes
            return 0.0, False, 0

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(look, numbers))
    notes = []
    largest = max((value for value, *_ in found), default=0.0)
    if largest:
        level = _white_level(largest)
        pixels = replace(pixels, white_level=level)
        deep = sum(value > 0 for value, *_ in found)
        notes.append(
            f"white is {level:.0f} in images of more than 8 bits: the largest value in {deep} of "
            f"them is {largest:.0f} (data.white_level sets it)"
        )
    if (turned := sum(turned for _, turned, _ in found)) and not pixels.exif_orientation:
        notes.append(
            f"{turned} of {len(found)} images that were looked at are stored turned, and stay so "
            "(data.exif_orientation=True turns all as their EXIF data say)"
        )
    areas = [area for *_, area in found if area]
    return pixels, notes, sum(areas) / len(areas) if areas else 0.0


def look_at_open(images: Iterable[Any], pixels: Pixels) -> Pixels:
    """What `first_look` finds out, from images that are open already, or arrays.

    Args:
      images: all of them; only those of Pillow can have more than 8 bits.
      pixels: as configured.
    """
    deep = [
        float(np.asarray(image).max(initial=0))
        for image in images
        if isinstance(image, Image.Image) and _is_deep(image) and image.mode != "F"
    ]
    if pixels.white_level or not any(deep):
        return pixels
    return replace(pixels, white_level=_white_level(max(deep)))


def _white_level(largest: float) -> float:
    return 2.0 ** max(8, math.ceil(math.log2(largest + 1))) - 1


def _is_deep(image: Image.Image) -> bool:
    """Whether Pillow gives whole or floating-point values of more than 8 bits."""
    return image.mode.startswith("I;16") or image.mode in ("I", "F")


def deep_values(image: ImageFile.ImageFile, data: bytes) -> np.ndarray | None:
    """The values of an image of more than 8 bits a channel; None for any other image.

    Args:
      image: opened, not loaded.
      data: the bytes of its file.

    Returns:
      Whole or floating-point numbers, [H, W] or [H, W, 3], or [H, W, 4] with an alpha of 16 bits.
    """
    if image.format == "PNG" and data[24] == 16:  # Pillow keeps the high bytes of colours alone
        from swav_jax.data.tf import tf  # takes seconds

        values = tf.io.decode_png(data, channels=4, dtype=tf.uint16).numpy()
        return values if (values[..., 3] < 65535).any() else values[..., :3]
    if _is_deep(image):
        return np.asarray(image)
    if image.format == "TIFF" and image.mode in ("RGB", "RGBA") and ";16" in _raw_mode(image):
        return _deep_colours(image, data)
    return None


def _deep_colours(image: ImageFile.ImageFile, data: bytes) -> np.ndarray:
    """Both bytes of the channels of a TIFF, of which Pillow gives the high ones.

    Its decoder gives the low ones when it is told that the bytes lie the other way round.
    """
    other = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
    raw = _raw_mode(image)
    swapped = raw[:-1] + other[raw[-1]]
    with open_image(data) as again:
        again.tile = [
            tile._replace(args=(swapped, *tile.args[1:]))
            for tile in again.tile
            if isinstance(tile.args, tuple)
        ]
        low = np.asarray(again)
    return np.asarray(image).astype(np.uint16) << 8 | low


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How the pixels of a TIFF lie in the file; "" for premultiplied ones."""
    args = image.tile[0].args if image.tile else None
    mode = args[0] if isinstance(args, tuple) else ""
    return "" if mode.startswith("RGBa") else mode


def _tiff_tag(image: Image.Image, tag: int) -> Any:
    """A TIFF's tag; None if there is no such one, or in another format."""
    return getattr(image, "tag_v2", {}).get(tag)


def _colours(values: np.ndarray) -> np.ndarray:
    """Values without their alpha channel."""
    return values[..., :3] if values.ndim == 3 else values


def _eight_bits(values: np.ndarray, pixels: Pixels, inverted: bool) -> Image.Image:
    """Values as an image: the top 8 bits of those from 0 to the white level."""
    whole = values.dtype.kind in "iu"
    if not whole and not pixels.white_level:
        raise UnreadableError(
            "floating-point values: set data.white_level to the one that is white"
        )
    if not pixels.white_level:
        _say_once(
            "images of more than 8 bits are rare here: the first look at the data met none, so "
            "white is 65535 in them (data.white_level sets it)"
        )
    level = pixels.white_level or 65535
    colours = np.nan_to_num(_colours(values))
    if colours.max(initial=0) > level or colours.min(initial=0) < 0:
        _say_once(f"values below 0 are shown black, those above {level:g} white (data.white_level)")
    scale = 256 / (level + 1 if whole else level)
    bytes_ = np.clip(np.floor(colours * scale), 0, 255).astype(np.uint8)
    if inverted:
        bytes_ = 255 - bytes_
    if values.shape[2:] == (4,):
        bytes_ = np.dstack([bytes_, (values[..., 3] >> 8).astype(np.uint8)])
    return Image.fromarray(bytes_)


def _without_alpha(image: Image.Image, background: str) -> Image.Image:
    """In RGB, transparent pixels on the background's colour."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
    return Image.fromarray(on_background(np.asarray(image), background))


def on_background(rgba: UInt8[np.ndarray, "H W 4"], background: str) -> UInt8[np.ndarray, "H W 3"]:
    """Colours as they look on a background, by Porter and Duff's "over"; "" drops alpha."""
    if rgba[..., 3].min(initial=255) == 255:
        return rgba[..., :3]
    if not background:
        _say_once("the alpha channel of images is dropped (data.background)")
        return rgba[..., :3]
    _say_once(f"transparent pixels are laid on {background} (data.background)")
    image = Image.fromarray(rgba)
    ground = Image.new("RGBA", image.size, (*ImageColor.getrgb(background)[:3], 255))
    return np.asarray(Image.alpha_composite(ground, image).convert("RGB"))


def _say_what_is_dropped(image: Image.Image) -> None:
    bands = len(image.getbands())
    if (stored := _tiff_tag(image, SAMPLES_PER_PIXEL) or 0) > bands:
        _say_once(
            f"of images with {stored} channels the first {bands} are used, the others dropped"
        )
    if image.format != "PSD" and getattr(image, "is_animated", False):  # a PSD's frames are layers
        _say_once("of files with several images (animations, pages) the first image is used")


_said: dict[str, object] = {}


def _say_once(message: str) -> None:
    this = object()
    if _said.setdefault(message, this) is this:
        logging.warning("%s", message)
