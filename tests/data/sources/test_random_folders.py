"""Folders made at random of all that real ones have: nothing is wrong and nothing goes unsaid."""

import os
import random
import unicodedata

import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from PIL import Image, features
from pixels import deep_png, deep_tiff, encoded

from swav_jax.data.sources import open_source
from swav_jax.data.sources.formats import readable
from swav_jax.data.sources.listing import list_images
from swav_jax.data.sources.names import printable
from swav_jax.data.sources.source import DataError

FOLDERS = 200
CLASSES = ["cat", "with space", "日本語 🙂", "c\nd", "test_tube", "train", "a\\b", "%20[x]*?"]
CLASSES += ["-flag", "x.jpg", "valley", "UPPER", unicodedata.normalize("NFD", "caf\u00e9")]
CLASSES = [*map(os.fsencode, CLASSES), b"caf\xe9", b"caf\xe8", "caf\u00e9".encode()]
STEMS = [b"a b", b"\xe9", "ü🙂".encode(), b"c\nd", b"e'\"f", b"%s", b"-x", b"[1]*?", b"a.b"]
SUFFIXES = {
    "JPEG": [b".jpg", b".JPG", b".jpeg", b""],
    "PNG": [b".png", b".PNG", b".jpg", b"", b".php"],
    "TIFF": [b".tif", b".TIFF", b""],
    "WEBP": [b".webp", b".jpg", b".image"],
    "GIF": [b".gif", b""],
    "BMP": [b".bmp", b".dat"],
    "PPM": [b".ppm", b".pnm", b""],
    "JPEG2000": [b".jp2", b""],
    "AVIF": [b".avif", b".jpg", b""],
    "ICO": [b".ico", b""],
}
if not features.check("avif"):
    del SUFFIXES["AVIF"]
if "HEIF" in readable():
    SUFFIXES["HEIF"] = [b".heic", b".HEIF", b".jpg", b""]
TRUSTED = {
    b".jpg",
    b".png",
    b".tif",
    b".webp",
    b".gif",
    b".bmp",
    b".ppm",
    b".pnm",
    b".jp2",
    b".avif",
    b".heic",
    b".heif",
}
LOSSLESS = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
JUNK = {
    b"labels.csv": b"name,label\n1,2\n",
    b"README": b"text\n",
    b"Thumbs.db": b"\xd0\xcf\x11\xe0" + bytes(90),
    b"x.xml": b"<xml/>",
    b".DS_Store": b"\0\0\0\1Bud1",
    b"._0.jpg": b"\0\5\x16\7" + bytes(90),
    b".hidden.png": encoded(Image.new("RGB", (4, 4)), "PNG"),
    b"photo.jxl": b"\xff\x0a" + bytes(90),
    b"photo.nef": encoded(Image.new("RGB", (4, 4)), "TIFF"),
    b"nothing": b"",
}


class Made:
    """A folder in the making, and the truth about it."""

    def __init__(self, top, rng):
        self.top, self.rng = top, rng
        self.images = {}  # path -> the pixels that should be seen, None for unreadable ones
        self.perhaps = set()  # of these, those of which too little is left to know them by
        self.left_out = 0
        self.depth = rng.choice([10, 12, 16])  # bits of deep images
        os.makedirs(top)

    def free(self, folder, names):
        """A name that nothing in the folder has; some file systems know one form of Unicode."""
        path = os.path.join(folder, self.rng.choice(names))
        return None if os.path.lexists(path) else path

    def image(self, folder, colour):
        kind = self.rng.choice(list(SUFFIXES))
        suffix = self.rng.choice(SUFFIXES[kind])
        stem = self.rng.choice(STEMS) + b"%d" % len(self.images)
        path = os.path.join(folder, stem + suffix)
        data, self.images[path] = self.encoded(kind, np.full((6, 5, 3), colour, np.uint8))
        if self.rng.random() < 0.06:
            at = len(data) // 3 if self.rng.random() < 0.5 else 20
            data, self.images[path] = data[:at], None
            if suffix.lower() not in TRUSTED and kind not in ("JPEG", "PNG", "GIF"):
                self.perhaps.add(path)
        self.write(path, data)

    def encoded(self, kind, pixels):
        """An image file, and what of it should be seen."""
        form = self.rng.choice(["RGB", "palette", "alpha", "key", "deep", "frames"])
        if form == "palette" and kind in ("PNG", "GIF", "BMP", "TIFF"):
            return encoded(Image.fromarray(pixels).quantize(8), kind), pixels
        if form == "alpha" and kind in ("PNG", "WEBP", "TIFF", "JPEG2000"):
            alpha = np.full((6, 5, 1), 255, np.uint8)
            alpha[3:] = 0
            image = Image.fromarray(np.dstack([pixels, alpha]))
            options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
            return encoded(image, kind, **options), np.where(alpha > 0, pixels, 255)
        if form == "key" and kind == "PNG":
            pixels = pixels.copy()
            pixels[3:] = (1, 2, 3)
            data = encoded(Image.fromarray(pixels), kind, transparency=(1, 2, 3))
            return data, np.where(pixels == (1, 2, 3), 255, pixels)
        if form == "deep" and kind in ("PNG", "TIFF"):
            values = pixels.astype(np.uint16) << (self.depth - 8)
            values[0, 0] = 2**self.depth - 1
            return (deep_png if kind == "PNG" else deep_tiff)(values), values
        if form == "frames" and kind in ("GIF", "TIFF", "WEBP"):
            more = [Image.new("RGB", (5, 6), "black")]
            options = LOSSLESS.get(kind, {})
            image = Image.fromarray(pixels)
            return encoded(image, kind, save_all=True, append_images=more, **options), pixels
        return encoded(Image.fromarray(pixels), kind, **LOSSLESS.get(kind, {})), pixels

    def junk(self, folder):
        if path := self.free(folder, list(JUNK)):
            self.write(path, JUNK[os.path.basename(path)])
            self.left_out += 1

    def no_file(self, folder):
        path = self.free(folder, [b"pipe.jpg", b"gone.png", b"self", b".git", b"loop", b"up"])
        if not path:
            return
        name = os.path.basename(path)
        if name == b"pipe.jpg":
            os.mkfifo(path)
        elif name == b".git":
            os.mkdir(path)
            self.write(os.path.join(path, b"0.jpg"), JUNK[b".hidden.png"])
        else:
            targets = {b"gone.png": b"/nowhere/0.png", b"self": b"self", b"loop": self.top}
            os.symlink(targets.get(name, os.path.dirname(self.top)), path)
        self.left_out += 1

    def write(self, path, data):
        with open(path, "wb") as file:
            file.write(data)


def make(top, rng):
    """A folder of several classes, each of one colour."""
    made = Made(top, rng)
    colours = [(250, 20, 30), (20, 200, 60), (40, 60, 240), (220, 210, 20)]
    folders = rng.sample(CLASSES, rng.randint(1, 4))
    for folder, colour in zip(folders, colours, strict=False):
        places = [os.path.join(top, folder)]
        os.mkdir(places[0])
        if folder.endswith(b".jpg"):
            made.left_out += 1  # a folder that is named like an image is said
        for _ in range(rng.randint(0, 2)):
            if inner := made.free(rng.choice(places), [b"deep", b"more images", b"0"]):
                os.mkdir(inner)
                places.append(inner)
        for _ in range(rng.randint(1, 4)):
            made.image(rng.choice(places), colour)
        for _ in range(rng.randint(0, 2)):
            made.junk(rng.choice(places))
        if rng.random() < 0.4:
            made.no_file(rng.choice(places))
    if len(folders) > 1 and rng.random() < 0.3:  # a link to another class
        path = os.path.join(top, folders[0], b"link")
        os.symlink(os.path.join(top, folders[1]), path)
        made.left_out += 1
    if rng.random() < 0.15:
        made.image(top, (128, 128, 128))
    if rng.random() < 0.3:
        made.junk(top)
    return made


def check(source, made, root):
    names, left_out = list_images(root)
    paths = [os.path.join(root, name) for name in names]
    # Every image is listed, and all else is counted and said.
    unknown = made.perhaps - set(paths)
    assert set(paths) == set(made.images) - unknown
    assert left_out.total() == made.left_out + len(unknown)
    assert bool(left_out) == any("left out of" in note for note in source.notes)
    assert [source.describe(i) for i in range(source.size)] == [printable(path) for path in paths]

    # An image has the class of its folder.
    inside = [os.path.relpath(path, root) for path in paths]
    beside = any(b"/" not in name for name in inside)
    own = [unicodedata.normalize("NFC", printable(name.partition(b"/")[0])) for name in inside]
    if beside or len(set(own)) < 2:
        assert source.labels is None
        assert not (beside and len(set(own)) > 2) or any("lie beside" in n for n in source.notes)
    else:
        assert [source.class_names[label] for label in source.labels] == own

    # It looks as it should, or there is a reason.
    for i, path in enumerate(paths):
        expected = made.images[path]
        try:
            shown = source.read(tf.constant(i, tf.int64)).numpy()
        except tf.errors.InvalidArgumentError:
            shown = np.empty(0)
        if not shown.size:
            assert expected is None and source.explain(i)
        elif expected is not None:
            if expected.dtype == np.uint16:
                level = source.pixels.white_level
                expected = np.minimum(expected.astype(float) * 256 // (level + 1), 255)
            assert np.abs(shown - expected.astype(float)).mean() < 8, path


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    monkeypatch.setattr(logging, "warning", lambda *args: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_random_folders(tmp_path):
    for seed in range(FOLDERS):
        rng = random.Random(seed)
        top = os.path.join(bytes(tmp_path), b"%d" % seed)
        split = rng.choice(["", "train", "training set"])
        made = make(os.path.join(top, os.fsencode(split)), rng)
        if held_out := rng.random() < 0.3 and rng.choice([b"test", b"val", b"test_set"]):
            os.mkdir(os.path.join(top, held_out))
            made.write(os.path.join(top, held_out, b"0.png"), JUNK[b".hidden.png"])
        if set(made.images) == made.perhaps or (not split and b"train" in os.listdir(top)):
            continue  # no image, or a class that is taken for the split; test_folder.py has both
        ambiguous = not split and (held_out or b"test_tube" in os.listdir(top))
        try:
            source = open_source("folder", os.fsdecode(top), split or "train")
            assert not ambiguous, seed
        except DataError as error:
            assert ambiguous and "--config.data.train" in str(error), (seed, error)
            if held_out:
                continue
            source = open_source("folder", os.fsdecode(top), ".")
        check(source, made, made.top)
