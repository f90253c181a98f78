import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pixels import encoded, read

from swav_jax.data.sources import open_source
from swav_jax.data.sources.source import MissingSplit


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def tfds_dir(request, tmp_path_factory):
    """A prepared data set: training images 0, 1, 2 and 3, 4 in two shards, and a test image."""
    import tensorflow_datasets as tfds
    from array_record.python import array_record_module

    top = tmp_path_factory.mktemp("tfds")
    folder = top / "tiny_photos" / "1.0.0"
    folder.mkdir(parents=True)
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name="tiny_photos", filetype_suffix=request.param
    )
    splits = []
    for split, shards in {"train": [[0, 1, 2], [3, 4]], "test": [[0]]}.items():
        paths = [
            folder / f"tiny_photos-{split}.{request.param}-{n:05}-of-{len(shards):05}"
            for n in range(len(shards))
        ]
        for path, numbers in zip(paths, shards, strict=True):
            if request.param == "tfrecord":
                writer = tf.io.TFRecordWriter(str(path))
            else:
                writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
            for i in numbers:
                writer.write(_example(i))
            writer.close()
        splits.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(numbers) for numbers in shards],
                num_bytes=0,
                filename_template=template.replace(split=split),
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"]),
            }
        ),
        split_infos=splits,
        filename_template=template,
        check_data=False,
    )
    return str(top)


def _example(i):
    features = {
        "image": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[encoded(Image.fromarray(_tiny(i)), "PNG")])
        ),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[i % 3])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _tiny(i):
    return np.full((3 + i, 4, 3), 40 * i, np.uint8)


def test_tfds_reads_in_any_order(tfds_dir):
    source = open_source("tfds:tiny_photos", tfds_dir, "train")
    assert source.size == 5 and source.class_names == ("ant", "bee", "cat")
    for i in (4, 0, 3, 1, 2):
        np.testing.assert_array_equal(read(source, i), _tiny(i))
    assert source.labels.tolist() == [0, 1, 2, 0, 1] and source.labels.dtype == np.int32
    part = open_source("tfds:tiny_photos", tfds_dir, "train[2:4]")
    assert part.size == 2 and part.labels.tolist() == source.labels[2:4].tolist()
    np.testing.assert_array_equal(read(part, 1), read(source, 3))
    assert open_source("tfds:tiny_photos", tfds_dir, "test").size == 1
    with pytest.raises(MissingSplit, match="it has"):
        open_source("tfds:tiny_photos", tfds_dir, "val")
