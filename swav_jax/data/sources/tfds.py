"""TensorFlow Datasets that are prepared on disk, read in any order."""

from typing import Any

import numpy as np

from swav_jax.data.sources.decode import decode
from swav_jax.data.sources.records import array_records, kept, tfrecords
from swav_jax.data.sources.source import DataError, MissingSplit, Source
from swav_jax.data.tf import as_written, tf


def open_tfds(name: str, data_dir: str, split: str, download: bool) -> Source:
    """A split of a data set that is prepared, or that may be downloaded."""
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
        record, describe = array_records(shards)
    elif builder.info.file_format.value == "tfrecord":
        record, describe = tfrecords(shards)
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

    @as_written
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
        find_labels=lambda: kept(f"labels {label_key}", shards, read_labels) if label_key else None,
    )


def _feature_keys(tfds: Any, info: Any) -> tuple[str, str | None]:
    """The first image feature, and the first class label or None."""
    features = info.features.items()
    images = [key for key, f in features if isinstance(f, tfds.features.Image)]
    labels = [key for key, f in features if isinstance(f, tfds.features.ClassLabel)]
    if not images:
        raise DataError(f"{info.name} has no image feature; it has {', '.join(info.features)}")
    return images[0], labels[0] if labels else None
