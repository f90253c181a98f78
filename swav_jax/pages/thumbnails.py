"""Small pictures of many images, in a few sheets that a page carries inside."""

import base64
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from swav_jax.data.passes import one_pass
from swav_jax.evals.labelled import Images
from swav_jax.runtime.progress import progress

SIDES = (96, 64, 48)  # pixels of a picture, the largest first; multiples of WebP's blocks of 16
PIXELS = 2**24  # of all pictures together, where the smallest side allows it
BYTES = 9 * 2**20  # of all sheets together, if the lowest quality allows it
QUALITIES = (80, 60, 40)
COLUMNS = 16  # pictures beside each other in a sheet, and below each other


def thumbnails(images: Images) -> UInt8[np.ndarray, "N P P 3"]:
    """Small squares of the images as the network sees them: the centre crops of evaluations.

    P is the largest of SIDES with which all stay below PIXELS, or the images' own size if smaller.

    Args:
      images: N; one that cannot be read is black.
    """
    source = images.source
    side = next((s for s in SIDES if source.size * s * s <= PIXELS), SIDES[-1])
    small: dict[int, np.ndarray] = {}
    batches = one_pass(
        source,
        min(256, source.size),
        resize=images.resize,
        crop=images.crop,
        max_bad_fraction=images.max_bad_fraction,
        threads=images.threads,
    )
    with progress(f"pictures of {source.size} images", source.size) as now:
        for batch in batches:
            side = min(side, *batch.image.shape[1:3])
            for number, image in zip(batch.index, batch.image, strict=True):
                small[int(number)] = np.asarray(_square(image, side))
            now(len(small))
    return np.stack([small[number] for number in range(source.size)])


def _square(image: np.ndarray, side: int) -> Image.Image:
    return ImageOps.fit(Image.fromarray(image), (side, side), Image.Resampling.BICUBIC)


def sheets(pictures: UInt8[np.ndarray, "N P P 3"]) -> list[str]:
    """Sheets of COLUMNS x COLUMNS pictures, row by row, as WebP in base64.

    Pictures that cannot be compressed well get a lower quality, to stay below BYTES.
    """
    arranged = [
        _sheet(pictures[first : first + COLUMNS**2])
        for first in range(0, len(pictures), COLUMNS**2)
    ]
    for quality in QUALITIES:
        encoded = [_webp(sheet, quality) for sheet in arranged]
        if sum(map(len, encoded)) <= BYTES:
            break
    return [base64.b64encode(sheet).decode() for sheet in encoded]


def _sheet(pictures: UInt8[np.ndarray, "n P P 3"]) -> UInt8[np.ndarray, "H W 3"]:
    count, side, *_ = pictures.shape
    rows = -(-count // COLUMNS)
    whole = np.zeros((rows * COLUMNS, side, side, 3), np.uint8)
    whole[:count] = pictures
    grid = whole.reshape(rows, COLUMNS, side, side, 3).swapaxes(1, 2)
    return grid.reshape(rows * side, COLUMNS * side, 3)


def _webp(sheet: UInt8[np.ndarray, "H W 3"], quality: int) -> bytes:
    file = BytesIO()
    Image.fromarray(sheet).save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()
