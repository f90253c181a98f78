"""Small images for tests of the sources, encoded to bytes and read back."""

import io
import struct
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image

from swav_jax.data.tf import as_written

SMOOTH = np.asarray(
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (5, 7, 3), np.uint8)).resize((35, 25))
)
RGB = Image.fromarray(SMOOTH)
# Values of 12 bits, none of them lost in rounding to 8.
DEEP = np.random.RandomState(1).randint(0, 4096, (25, 35, 3)).astype(np.uint16)


def encoded(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def deep_png(values):
    """A PNG of 16 bits: uint16 [H, W, 1 to 4], of which Pillow would write only grey."""
    return tf.io.encode_png(values).numpy()


def deep_tiff(values, *, order="<", compressed=False, photometric=None, extra=()):
    """A TIFF of 16 bits, which Pillow cannot write: uint16 [H, W, C]; `extra` samples by kind."""
    height, width, channels = values.shape
    strip = values.astype(f"{order}u2").tobytes()
    if compressed:
        strip = zlib.compress(strip)
    if photometric is None:
        photometric = 1 if channels - len(extra) == 1 else 2
    tags = {
        256: [width],
        257: [height],
        258: [16] * channels,
        259: [8 if compressed else 1],
        262: [photometric],
        273: [8],
        277: [channels],
        278: [height],
        279: [len(strip)],
        338: list(extra),
        339: [1] * channels,
    }
    start, entries, later = 8 + len(strip) + len(strip) % 2, [], b""
    tags = {tag: values for tag, values in tags.items() if values}
    after = start + 2 + 12 * len(tags) + 4
    for tag, numbers in tags.items():
        kind, form = (4, "L") if tag in (273, 279) else (3, "H")
        packed = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        if len(packed) > 4:
            packed, later = struct.pack(f"{order}L", after + len(later)), later + packed
        entries.append(struct.pack(f"{order}HHL", tag, kind, len(numbers)) + packed.ljust(4, b"\0"))
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    directory = struct.pack(f"{order}H", len(tags)) + b"".join(entries) + bytes(4)
    return (
        mark + struct.pack(f"{order}L", start) + strip + bytes(len(strip) % 2) + directory + later
    )


def read(source, i):
    """Within a graph, as the pipeline does."""
    number = tf.data.Dataset.from_tensors(np.int64(i))
    return number.map(as_written(source.read)).get_single_element().numpy()
