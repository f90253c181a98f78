"""Small data sets as TFDS prepares them, whose features and labels a test chooses."""

import numpy as np
import tensorflow as tf
from PIL import Image
from pixels import encoded


def prepare(top, name, features, splits, *, suffix="tfrecord", version="1.0.0", **info):
    """A prepared data set.

    Args:
        top: its data_dir.
        name: of the data set.
        features: its TFDS features.
        splits: for each split its shards, for each shard its examples: arrays of pixels and labels
            by feature.
        suffix: tfrecord or array_record.
        version: of the data set.
        info: more for `write_metadata`, as supervised_keys.
    """
    import tensorflow_datasets as tfds
    from array_record.python import array_record_module

    folder = top / name / version
    folder.mkdir(parents=True)
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=name, filetype_suffix=suffix
    )
    infos = []
    for split, shards in splits.items():
        for n, examples in enumerate(shards):
            path = folder / f"{name}-{split}.{suffix}-{n:05}-of-{len(shards):05}"
            if suffix == "tfrecord":
                writer = tf.io.TFRecordWriter(str(path))
            else:
                writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
            for example in examples:
                writer.write(serialised(example))
            writer.close()
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(examples) for examples in shards],
                num_bytes=0,
                filename_template=template.replace(split=split),
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds.features.FeaturesDict(features),
        split_infos=infos,
        filename_template=template,
        check_data=False,
        **info,
    )


def serialised(example):
    feature = {}
    for key, value in example.items():
        if isinstance(value, np.ndarray):
            data = [encoded(Image.fromarray(value), "PNG")]
            feature[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=data))
        else:
            data = np.ravel(value).tolist()
            feature[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=data))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def tiny(i):
    return np.full((3 + i, 4, 3), 40 * i, np.uint8)


def labelled(*labels, size=None):
    """Examples with these labels, of images `tiny` or of the given size."""
    images = [np.full((size or 3, size or 4, 3), 5 * i, np.uint8) for i in range(len(labels))]
    return [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
