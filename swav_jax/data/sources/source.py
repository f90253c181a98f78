"""Where images come from: the bundled digits, a folder, or TensorFlow Datasets, one interface.

A `Source` reads any image by its number, in any order: the training order is arithmetic
(`index.py`), so nothing here shuffles, buffers or keeps a position.
"""

import dataclasses
import functools
import hashlib
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Int32
from PIL import Image

from swav_jax.data.tf import tf

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"))
CACHE = Path.home() / ".cache" / "swav_jax"
SPLITS = frozenset(("train", "training", "test", "val", "valid", "validation"))
CACHE_RECORDS = 200_000  # a record index of at least this many records is kept on disk


class DataError(ValueError):
    """The data cannot be used; the message names what was looked for and what to do."""


class MissingSplit(DataError):
    """The data set has no such split, for example no test images: evaluation can be skipped."""


@dataclasses.dataclass(frozen=True)
class Source:
    """N images that can be read in any order.

    Attributes:
        size: N.
        class_names: names of the labels, empty without labels.
        describe: image number -> its file or record, for messages.
        read: int64 [] image number -> uint8 [H, W, 3]; TensorFlow ops, for use inside tf.data.
        may_fail: whether `read` can fail on a damaged image, by an error or by giving an empty one;
            False if all is decoded in memory.
        find_labels: gives `labels`; called once, when somebody asks for them.
        unreadable: numbers of the images that this host has found unreadable so far.
    """

    size: int
    class_names: tuple[str, ...]
    describe: Callable[[int], str]
    read: Callable[[tf.Tensor], tf.Tensor]
    may_fail: bool
    find_labels: Callable[[], np.ndarray | None]
    unreadable: set[int] = dataclasses.field(default_factory=set, compare=False)

    @functools.cached_property
    def labels(self) -> Int32[np.ndarray, " N"] | None:
        """The class of each image, or None. A TFDS split is read through once to find them."""
        return self.find_labels()


def open_source(name: str, data_dir: str, split: str, *, download: bool = False) -> Source:
    """Opens one split of a data set.

    Args:
        name: `digits` (scikit-learn's, bundled), `folder`, or `tfds:<name>` such as `tfds:cifar10`.
        data_dir: the folder of images, or TFDS's data folder ("" for TFDS's own default).
        split: `train` or `test` for the digits; a subfolder of a folder (without a `train`
            subfolder, the whole folder is `train`); any TFDS split, also `train[:10%]`.
        download: let TFDS download and prepare a data set that is not there.

    Raises:
        MissingSplit: the data set is there, this split of it is not.
        DataError: there is no such data set, or no image in it.
    """
    if name == "digits":
        return _digits(split)
    if name == "folder":
        return _folder(data_dir, split)
    if name.startswith("tfds:"):
        return _tfds(name.removeprefix("tfds:"), data_dir, split, download)
    raise DataError(f"data.name is {name!r}; it can be digits, folder or tfds:<name>")


def decode(data: tf.Tensor) -> tf.Tensor:
    """Decodes the bytes of a JPEG, PNG, WebP, GIF (first frame) or BMP file, whatever its name.

    Grey, palette, CMYK and 16-bit images become 8-bit RGB, and alpha is dropped, as by Pillow's
    `convert("RGB")` (16 bits by their high byte). EXIF orientation is ignored, as by torchvision.

    Args:
        data: string [].

    Returns:
        uint8 [H, W, 3]; [0, 0, 3] if Pillow cannot read it.

    Raises:
        tf.errors.InvalidArgumentError: a damaged JPEG or PNG.
    """

    def jpeg() -> tf.Tensor:
        return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")

    def other() -> tf.Tensor:
        return tf.numpy_function(_decode_by_pillow, [data], tf.uint8, stateful=False)

    is_jpeg = tf.strings.substr(data, 0, 2) == b"\xff\xd8"
    is_png = tf.strings.substr(data, 0, 4) == b"\x89PNG"
    image = tf.cond(
        is_jpeg, jpeg, lambda: tf.cond(is_png, lambda: tf.io.decode_png(data, channels=3), other)
    )
    return tf.ensure_shape(image, [None, None, 3])


def _decode_by_pillow(data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except Exception:  # Pillow's decoders raise nearly anything on damaged files
        return np.empty((0, 0, 3), np.uint8)


# ---- scikit-learn's digits ----------------------------------------------------------------------

DIGITS_TRAIN = 1500  # of 1,797; the other 297 are the test split


def _digits(split: str) -> Source:
    from sklearn.datasets import load_digits

    if split not in ("train", "test"):
        raise MissingSplit(f"the digits have the splits train and test, not {split!r}")
    order = np.random.RandomState(0).permutation(1797)
    chosen = order[:DIGITS_TRAIN] if split == "train" else order[DIGITS_TRAIN:]
    digits = load_digits()
    small = (digits.images[chosen] * (255 / 16)).astype(np.uint8)  # 8x8, grey levels 0..16
    images = np.stack(
        [np.asarray(Image.fromarray(x).resize((32, 32), Image.Resampling.BILINEAR)) for x in small]
    )
    images = np.repeat(images[..., None], 3, axis=-1)
    labels = digits.target[chosen].astype(np.int32)
    return Source(
        size=len(chosen),
        class_names=tuple(str(d) for d in range(10)),
        describe=lambda i: f"digit {chosen[i]}",
        read=lambda i: tf.gather(tf.constant(images), i),
        may_fail=False,
        find_labels=lambda: labels,
    )


# ---- a folder of images -------------------------------------------------------------------------


def _folder(data_dir: str, split: str) -> Source:
    top = Path(data_dir)
    if not data_dir or not top.is_dir():
        raise DataError(
            f"there is no folder {data_dir!r}: set data.data_dir to a folder of images "
            "(with or without class subfolders)"
        )
    root = top / split
    if not root.is_dir():
        if split != "train":
            raise MissingSplit(f"there is no folder {root}: nothing to read as {split!r}")
        splits = sorted(d.name for d in top.iterdir() if d.is_dir() and d.name.lower() in SPLITS)
        if splits:
            raise DataError(
                f"{top} has {', '.join(splits)} but no {split!r}: name the folder of the training "
                "images by data.train, and that of the test images by data.test"
            )
        root = top
    names = sorted(_image_names(root))
    if not names:
        raise DataError(
            f"no image in {root}: set data.data_dir to a folder with "
            f"{', '.join(sorted(IMAGE_SUFFIXES))} files, in it or in its subfolders"
        )
    paths = tf.constant([os.path.join(root, name) for name in names])
    labels, classes = _labels_by_subfolder(names)
    return Source(
        size=len(names),
        class_names=classes,
        describe=lambda i: os.path.join(root, names[i]),
        read=lambda i: decode(tf.io.read_file(tf.gather(paths, i))),
        may_fail=True,
        find_labels=lambda: labels,
    )


def _image_names(root: Path) -> list[str]:
    """Image files below a folder, relative to it; hidden files and folders are left out."""
    names = []
    for folder, subfolders, files in os.walk(root, followlinks=True):
        relative = os.path.relpath(folder, root)
        for name in subfolders:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                logging.warning("%s is a folder, not an image", os.path.join(folder, name))
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        names += [
            os.path.normpath(os.path.join(relative, name))
            for name in files
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    return names


def _labels_by_subfolder(names: list[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels by first-level subfolder, if every image is in one and there are several."""
    folders = [name.split(os.sep)[0] if os.sep in name else "" for name in names]
    classes = sorted(set(folders))
    if "" in classes or len(classes) < 2:
        return None, ()
    number = {folder: i for i, folder in enumerate(classes)}
    return np.array([number[folder] for folder in folders], np.int32), tuple(classes)


# ---- TensorFlow Datasets ------------------------------------------------------------------------

Shards = Sequence[Any]  # tfds's FileInstructions: filename, skip, take, examples_in_shard
RandomAccess = tuple[Callable[[int], bytes], Callable[[int], str]]  # record, its description


def _tfds(name: str, data_dir: str, split: str, download: bool) -> Source:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
    except tfds.core.DatasetNotFoundError as error:
        raise DataError(
            f"TensorFlow Datasets knows no {name!r}, and none is prepared in {data_dir!r}: "
            "check data.name and data.data_dir"
        ) from error
    if download:
        builder.download_and_prepare()
    if not builder.is_prepared():
        raise DataError(
            f"{name} is not prepared in {builder.data_dir}: set data.data_dir to where it is, or "
            f"prepare it, by data.download=True or by `tfds build {name} --data_dir=...` "
            "(imagenet2012 wants its archives downloaded by hand first)"
        )
    try:
        shards = builder.info.splits[split].file_instructions
    except (KeyError, ValueError) as error:
        raise MissingSplit(
            f"{name} has no split {split!r}; it has {', '.join(builder.info.splits)}"
        ) from error

    image_key, label_key = _feature_keys(tfds, builder.info)
    if builder.info.file_format.value == "array_record":
        record, describe = _array_records(shards)
    elif builder.info.file_format.value == "tfrecord":
        record, describe = _tfrecords(shards)
    else:
        raise DataError(
            f"{name} is stored as {builder.info.file_format.value}, which cannot be read in any "
            "order: prepare it with `tfds build --file_format=array_record`"
        )

    def read(i: tf.Tensor) -> tf.Tensor:
        example = tf.io.parse_single_example(
            tf.ensure_shape(tf.numpy_function(record, [i], tf.string, stateful=False), []),
            {image_key: tf.io.FixedLenFeature([], tf.string)},
        )
        return decode(example[image_key])

    size = sum(shard.take for shard in shards)

    def labels_of(numbers: tf.Tensor) -> tf.Tensor:
        examples = tf.numpy_function(
            lambda some: np.array([record(i) for i in some], object), [numbers], tf.string
        )
        feature = {label_key: tf.io.FixedLenFeature([], tf.int64)}
        return tf.io.parse_example(tf.ensure_shape(examples, [None]), feature)[label_key]

    def read_labels() -> np.ndarray:
        parts = tf.data.Dataset.range(size).batch(1000).map(labels_of, num_parallel_calls=16)
        return np.concatenate(list(parts.as_numpy_iterator())).astype(np.int32)

    return Source(
        size=size,
        class_names=tuple(builder.info.features[label_key].names) if label_key else (),
        describe=describe,
        read=read,
        may_fail=True,
        find_labels=lambda: (
            _kept(f"labels {label_key}", shards, read_labels) if label_key else None
        ),
    )


def _feature_keys(tfds: Any, info: Any) -> tuple[str, str | None]:
    """The first image feature, and the first class label or None."""
    features = info.features.items()
    images = [key for key, f in features if isinstance(f, tfds.features.Image)]
    labels = [key for key, f in features if isinstance(f, tfds.features.ClassLabel)]
    if not images:
        raise DataError(f"{info.name} has no image feature; it has {', '.join(info.features)}")
    return images[0], labels[0] if labels else None


def _array_records(shards: Shards) -> RandomAccess:
    # Without type information, as tfds is.
    from array_record.python import array_record_data_source  # type: ignore[import-untyped]

    records = array_record_data_source.ArrayRecordDataSource(shards)
    return lambda i: records[int(i)], lambda i: f"record {i} of {shards[0].filename} ..."


def _tfrecords(shards: Shards) -> RandomAccess:
    """Random access to TFRecord files by the place of each record, found once.

    A TFRecord is: length (8 bytes), its checksum (4), the record, its checksum (4).
    """
    files = [os.fspath(shard.filename) for shard in shards]
    first = np.cumsum([0] + [shard.take for shard in shards])
    offsets, lengths = _kept("records", shards, lambda: _record_places(shards))

    def place(i: int) -> tuple[str, int]:
        shard = int(np.searchsorted(first, i, side="right")) - 1
        return files[shard], int(i) - int(first[shard]) + shards[shard].skip

    def record(i: int) -> bytes:
        file = os.open(place(i)[0], os.O_RDONLY)
        try:
            data = os.pread(file, int(lengths[i]), int(offsets[i]))
        finally:
            os.close(file)
        if len(data) != lengths[i]:
            raise OSError(f"{place(i)[0]} ends within record {place(i)[1]}")
        return data

    return record, lambda i: "{}, record {}".format(*place(i))


def _kept(what: str, shards: Shards, make: Callable[[], np.ndarray]) -> np.ndarray:
    """`make()`, kept on disk if the shards are many records; a changed shard is another key."""
    if sum(shard.take for shard in shards) < CACHE_RECORDS:
        return make()
    key = [what]
    for shard in shards:
        stat = os.stat(shard.filename)
        path = os.path.abspath(shard.filename)
        key.append(f"{path} {shard.skip} {shard.take} {stat.st_size} {stat.st_mtime_ns}")
    cached = CACHE / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.npy"
    if not cached.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = cached.with_suffix(f".{os.getpid()}.npy")
        np.save(part, make())
        part.replace(cached)  # whole or not at all, whoever else writes it
    return np.load(cached)


def _record_places(shards: Shards) -> np.ndarray:
    """Offset and length in bytes of every record's payload: int64 [2, N]."""
    with ThreadPoolExecutor(16) as pool:  # the disk's latency is the cost, not the processor
        return np.concatenate(list(pool.map(_shard_places, shards))).T.copy()


def _shard_places(shard: Any) -> np.ndarray:
    places = np.empty((shard.skip + shard.take, 2), np.int64)
    file = os.open(shard.filename, os.O_RDONLY)
    try:
        offset = 0
        for n in range(len(places)):
            header = os.pread(file, 8, offset)
            if len(header) < 8:
                raise DataError(
                    f"{shard.filename} holds {n} records where its data set says "
                    f"{shard.examples_in_shard}: prepare the data set again"
                )
            length = int.from_bytes(header, "little")
            places[n] = offset + 12, length
            offset += 12 + length + 4
    finally:
        os.close(file)
    return places[shard.skip :]
