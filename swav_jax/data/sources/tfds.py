"""TensorFlow Datasets that are prepared on disk, read in any order."""

import importlib.util
import os
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from absl import logging

from swav_jax.data.sources.pixels import (
    AS_USUAL,
    Pixels,
    evenly,
    first_look,
    rgb,
    why_unreadable,
)
from swav_jax.data.sources.records import RandomAccess, Shards, array_records, kept, tfrecords
from swav_jax.data.sources.source import (
    DataError,
    MissingSplit,
    Source,
    Tensor,
)
from swav_jax.data.sources.tfds_labels import Feature, read_labels, read_multi_labels

HUGGING_FACE = ("datasets", "huggingface_hub")  # packages by which TFDS prepares its data sets


def open_tfds(
    name: str,
    data_dir: str,
    split: str,
    download: bool,
    image_key: str = "",
    label_key: str = "",
    pixels: Pixels = AS_USUAL,
) -> Source:
    """A split of a data set that is prepared, or that may be downloaded.

    Image and label are the features that the data set's `supervised_keys` name, else those called
    `image` and `label`, else the only ones of their kind.

    Args:
      name: as `tfds.builder` takes it.
      data_dir: where it is prepared; "" for TFDS's default.
      split: as TFDS takes it.
      download: let TFDS download and prepare what is not there.
      image_key: the feature that is the image; "" for the rule above.
      label_key: the feature that is the label; "" for the rule above.
      pixels: how stored pixels become 8-bit RGB.

    Raises:
      MissingSplit: the data set has no such split.
      DataError: it is not there, cannot be read, or has several features that could be meant.
    """
    from tensorflow_datasets.proto import tf_example_pb2  # as TensorFlow's, without TensorFlow

    info = _prepared(name, data_dir, download).info
    shards = _shards(info, name, split)
    size = sum(shard.take for shard in shards)
    image_key, label_key = _image_key(info, image_key), _label_key(info, label_key)
    height, width, _ = info.features[image_key].shape
    record, place = _records(info, name, shards)

    def describe(i: int) -> str:
        return "{}, record {}".format(*place(i))

    def feature(i: int, key: str) -> Any:
        return tf_example_pb2.Example.FromString(record(i)).features.feature[key]

    def image_data(i: int) -> bytes:
        return feature(i, image_key).bytes_list.value[0]

    pixels, notes, area = first_look(image_data, evenly(size), pixels)
    return Source(
        size=size,
        class_names=tuple(info.features[label_key].names) if label_key else (),
        describe=describe,
        read=_reading(record, image_key, pixels),
        decode=lambda i: rgb(image_data(i), pixels),
        shape=(height, width) if height and width else None,
        area=area,
        may_fail=True,
        find_labels=lambda: _labels(feature, info, label_key, shards, describe),
        find_multi_labels=lambda: read_multi_labels(feature, info, size),
        explain=lambda i: why_unreadable(lambda: image_data(i), pixels),
        changed=lambda i: os.stat(place(i)[0]).st_mtime_ns,
        identity=lambda: (f"{info.full_name} {split}".encode(),),
        feature=image_key,
        notes=tuple(f"{name}: {note}" for note in notes),
        pixels=pixels,
    )


def _reading(
    record: Callable[[int], bytes], image_key: str, pixels: Pixels
) -> Callable[[Tensor], Tensor]:
    """`Source.read` of images that are a feature of records."""

    def read(i: Tensor) -> Tensor:
        from swav_jax.data.sources.decode import decode
        from swav_jax.data.tf import python_function, tf

        example = tf.io.parse_single_example(
            tf.ensure_shape(python_function(record, [i], tf.string, stateful=False), []),
            {image_key: tf.io.FixedLenFeature([], tf.string)},
        )
        return decode(example[image_key], pixels)

    return read


def _labels(
    feature: Feature, info: Any, key: str, shards: Shards, describe: Callable[[int], str]
) -> np.ndarray | None:
    """The class of each image, -1 where its record is damaged; None if no feature is one class.

    Raises:
      DataError: a record has a class that the data set does not know.
    """
    if not key:
        logging.info("%s has no label that is one class: %s", info.name, _kinds(info))
        return None
    size, classes = sum(shard.take for shard in shards), info.features[key].num_classes
    labels = kept(f"labels {key}", shards, lambda: read_labels(feature, key, size))
    if labels.max() >= classes:
        raise DataError(
            f"{describe(int(labels.argmax()))}: its {key} is {labels.max()}, and {info.name} has "
            f"{classes} classes. Prepare the data set again."
        )
    return labels


def _prepared(name: str, data_dir: str, download: bool) -> Any:
    """TFDS's builder of a data set whose files are there.

    Raises:
      DataError: they are not, or are in a bucket.
    """
    builder = _builder(name, data_dir)
    with _calling_tfds(f"prepare {name}"):
        if download:
            builder.download_and_prepare()
        prepared = builder.is_prepared()
    if not prepared:
        raise DataError(
            f"{name} is not prepared in {builder.data_dir}: set data.data_dir, or eval.data_dir, "
            "to where it is, or prepare it, by data.download=True or by "
            f"`tfds build {name} --data_dir=...` (imagenet2012 wants its archives downloaded by "
            "hand first)"
        )
    if "://" in os.fspath(builder.data_dir):
        raise DataError(
            f"{name} lies at {builder.data_dir}, and images are read from folders: copy it, or "
            "mount the bucket, and name the folder above it instead"
        )
    return builder


def _shards(info: Any, name: str, split: str) -> Shards:
    """The files of a split, with at least one record.

    Raises:
      MissingSplit: the data set has no such split.
      DataError: there is no record.
    """
    try:
        shards = info.splits[split].file_instructions
    except (KeyError, ValueError) as error:
        raise MissingSplit(
            f"{name} has no split {split!r}; it has {', '.join(info.splits)}"
        ) from error
    if not any(shard.take for shard in shards):
        raise DataError(f"there is no image in the split {split!r} of {name}")
    return shards


def _records(info: Any, name: str, shards: Shards) -> RandomAccess:
    """Records of some files by their number.

    Raises:
      DataError: they can only be read in order.
    """
    kind = info.file_format.value
    if kind == "array_record":
        return array_records(shards)
    if kind == "tfrecord":
        return tfrecords(shards)
    raise DataError(
        f"{name} is stored as {kind}, which cannot be read in any order: prepare it with "
        "`tfds build --file_format=array_record`"
    )


def _builder(name: str, data_dir: str) -> Any:
    """TFDS's builder of a data set.

    Raises:
      DataError: it cannot be made.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import naming, read_only_builder

    try:
        parsed, version = naming.parse_builder_name_kwargs(name)
        if parsed.namespace == "huggingface" and not name.islower():
            raise ValueError("TFDS writes Hugging Face's names in small letters")
    except ValueError as error:
        raise DataError(
            f"data.name is tfds:{name}; TFDS has names like tfds:cifar10, tfds:name/config and "
            "tfds:name:1.0.0, and tfds:huggingface:owner__name for owner/Name of Hugging Face"
        ) from error
    where = {"data_dir": data_dir or None}
    with _calling_tfds(f"open {name}"):
        if parsed.namespace == "huggingface":
            # TFDS's way asks the hub even for what is prepared; its files are enough.
            with suppress(tfds.core.DatasetNotFoundError):
                builder = read_only_builder.builder_from_files(parsed.name, **version, **where)
                if "huggingface.co" in builder.info.homepage:  # TFDS has a `beans` of its own
                    return builder
            missing = [module for module in HUGGING_FACE if not importlib.util.find_spec(module)]
            if missing:
                raise DataError(
                    f"{name} is not prepared in {data_dir or 'the default data_dir'}, and TFDS "
                    f"prepares it by packages that are missing: pip install {' '.join(missing)}"
                )
        try:
            return tfds.builder(name, **where)
        except tfds.core.DatasetNotFoundError as error:
            raise DataError(
                f"TensorFlow Datasets knows no {name!r}, and none is prepared in {data_dir!r}: "
                "check both names"
            ) from error


@contextmanager
def _calling_tfds(what: str) -> Iterator[None]:
    """Keeps TFDS from chatting, and gives its errors one line: it raises nearly anything.

    Raises:
      DataError: in place of what TFDS raises.
    """
    logger = logging.get_absl_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise DataError(
            f"TensorFlow Datasets cannot {what}: {textwrap.shorten(text, 300, placeholder=' ...')}"
        ) from error
    finally:
        logger.setLevel(level)


def _image_key(info: Any, wanted: str) -> str:
    """The feature that is the image.

    Raises:
      DataError: there is none that can be read, or it is not known which one is meant.
    """
    from tensorflow_datasets.core.features import Image, LabeledImage

    images = [
        key
        for key, feature in info.features.items()
        if isinstance(feature, Image) and not isinstance(feature, LabeledImage)
    ]
    key = _meant(info, "image", 0, images, wanted)
    if not key:
        raise DataError(
            f"it is not known which feature of {info.name} is the image: it has {_kinds(info)}. "
            "One that is an Image can be chosen by data.image_key."
        )
    if info.features[key].np_dtype == np.float32:
        raise DataError(f"the image {key} of {info.name} is of floats; integers can be read")
    return key


def _label_key(info: Any, wanted: str) -> str:
    """The feature that is the label, "" if none is one class.

    Raises:
      DataError: it is not known which one is meant.
    """
    from tensorflow_datasets.core.features import ClassLabel

    labels = [k for k, f in info.features.items() if isinstance(f, ClassLabel) and f.num_classes]
    return _meant(info, "label", 1, labels, wanted)


def _meant(info: Any, what: str, place: int, candidates: list[str], wanted: str) -> str:
    """The candidate that is wanted, or else that the data set means by "image" or "label".

    Args:
      info: of the data set.
      what: "image" or "label".
      place: of it in `supervised_keys`.
      candidates: features of the right kind.
      wanted: by `data.<what>_key`.

    Returns:
      "" without candidates, or if the data set means a feature of another kind.
    """
    if wanted:
        if wanted not in candidates:
            raise DataError(
                f"data.{what}_key is {wanted!r}; the features of {info.name} that can be the "
                f"{what} are {', '.join(sorted(candidates)) or 'none'}"
            )
        return wanted
    supervised = (info.supervised_keys or (None, None))[place]
    named = [key for key in (supervised, what) if isinstance(key, str) and key in info.features]
    for key in named:
        if key in candidates:
            return key
    if named or not candidates:
        return ""
    if len(candidates) > 1:
        raise DataError(
            f"{info.name} does not say which of its features is the {what}: set data.{what}_key "
            f"to one of {', '.join(sorted(candidates))}"
        )
    logging.info("the %s of %s is %s, the only one", what, info.name, candidates[0])
    return candidates[0]


def _kinds(info: Any) -> str:
    return ", ".join(sorted(f"{key} ({type(f).__name__})" for key, f in info.features.items()))
