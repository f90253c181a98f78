"""Folders of images for tests, good and damaged."""

import numpy as np
from PIL import Image

from swav_jax.data.sources.memory import open_arrays
from swav_jax.evals.labelled import Images


def smooth(number, height, width):
    """A colourful image without details."""
    small = np.random.RandomState(number).randint(0, 256, (5, 6, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def with_labels(labels, names):
    """Images of which nothing but the labels is looked at."""
    source = open_arrays([np.zeros((1, 1, 3), np.uint8)] * len(labels))
    source = source.part(np.arange(len(labels)), np.array(labels, np.int32), names)
    return Images(source, resize=8, crop=8, mean=(0.5,) * 3, std=(0.25,) * 3)


def save_damaged(folder):
    """Sixteen good images, four that cannot be read, and a folder named like an image."""
    for n in range(12):
        smooth(n, 40, 50).save(folder / f"good{n:02}.png")
    smooth(12, 40, 50).convert("CMYK").save(folder / "cmyk.jpg")
    smooth(13, 40, 50).quantize(16).save(folder / "palette.png")
    Image.fromarray(np.full((40, 50), 40_000, np.uint16)).save(folder / "deep.png")
    Image.new("RGB", (20_000, 10), "red").save(folder / "wide.png")
    whole = folder / "whole.jpg"
    smooth(14, 40, 50).save(whole)
    (folder / "bad_truncated.jpg").write_bytes(whole.read_bytes()[:400])
    whole.unlink()
    (folder / "bad_truncated.png").write_bytes((folder / "good00.png").read_bytes()[:400])
    (folder / "bad_empty.jpg").write_bytes(b"")
    (folder / "bad_text.jpg").write_text("not an image")
    (folder / "x.jpg").mkdir()
