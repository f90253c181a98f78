import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits

from swav_jax.data.sources import source as sources
from swav_jax.data.sources.source import DataError, MissingSplit, open_source

SMOOTH = np.asarray(
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (5, 7, 3), np.uint8)).resize((35, 25))
)


def _encoded(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def _read(source, i):
    """Within a graph, as the pipeline does."""
    return tf.data.Dataset.from_tensors(np.int64(i)).map(source.read).get_single_element().numpy()


def _decode(data):
    return tf.data.Dataset.from_tensors(data).map(sources.decode).get_single_element().numpy()


RGB = Image.fromarray(SMOOTH)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (RGB, "JPEG"),
        (RGB.convert("L"), "JPEG"),
        (RGB.convert("CMYK"), "JPEG"),
        (RGB, "PNG"),
        (RGB.convert("1"), "PNG"),
        (RGB.convert("L"), "PNG"),
        (RGB.convert("LA"), "PNG"),
        (RGB.convert("RGBA"), "PNG"),
        (RGB.quantize(16), "PNG"),
        (RGB, "WEBP"),
        (RGB.convert("RGBA"), "WEBP"),
        (RGB, "GIF"),
        (RGB.convert("L"), "GIF"),
        (RGB, "BMP"),
        (RGB.convert("L"), "BMP"),
        (RGB.quantize(16), "BMP"),
    ],
    ids=lambda x: x if isinstance(x, str) else x.mode,
)
def test_every_format_and_mode_decodes_to_pillows_rgb(image, kind):
    data = _encoded(image, kind)
    ours, pillows = _decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert ours.dtype == np.uint8 and ours.shape == (25, 35, 3)
    assert np.abs(ours.astype(int) - pillows).max() <= 1


def test_16_bits_keep_their_high_byte():
    deep = (SMOOTH[..., 0].astype(np.uint16) << 8) + 77
    ours = _decode(_encoded(Image.fromarray(deep), "PNG"))
    np.testing.assert_array_equal(ours, np.repeat(SMOOTH[..., :1], 3, axis=-1))


def test_of_an_animation_the_first_frame_is_read():
    frames = [RGB, Image.new("RGB", RGB.size, "red")]
    data = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(
        _decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    )


def test_digits():
    train, test = (open_source("digits", "", split) for split in ("train", "test"))
    assert (train.size, test.size) == (1500, 297)
    assert train.class_names == tuple("0123456789") and not train.may_fail
    image = _read(train, 5)
    assert image.shape == (32, 32, 3) and image.dtype == np.uint8

    # Averaged back to 8x8, every image is one of scikit-learn's, once, with its label.
    digits = load_digits()
    flat = digits.images.reshape(-1, 64) * (255 / 16)
    found = []
    for source in (train, test):
        images = list(tf.data.Dataset.range(source.size).map(source.read).as_numpy_iterator())
        for i in range(0, source.size, 10):
            small = images[i][..., 0].reshape(8, 4, 8, 4).mean((1, 3)).reshape(64)
            nearest = np.argmin(np.linalg.norm(flat - small, axis=1))
            assert digits.target[nearest] == source.labels[i]
            found.append(nearest)
    assert len(set(found)) == len(found)
    with pytest.raises(MissingSplit, match="train and test"):
        open_source("digits", "", "val")


def _save(path, image=RGB):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def test_folder_with_classes(tmp_path):
    names = ["train/cat/b.png", "train/cat/a.JPG", "train/ant/deep/c.bmp", "test/cat/d.png"]
    for name in names:
        _save(tmp_path / name)
    (tmp_path / "train/cat/notes.txt").write_text("no image")
    (tmp_path / "train/cat/._a.jpg").write_text("a hidden file")
    train = open_source("folder", str(tmp_path), "train")
    assert [train.describe(i) for i in range(train.size)] == [
        str(tmp_path / name) for name in (names[2], names[1], names[0])
    ]
    assert train.labels.tolist() == [0, 1, 1] and train.labels.dtype == np.int32
    assert train.class_names == ("ant", "cat")
    np.testing.assert_array_equal(_read(train, 2), SMOOTH)
    test = open_source("folder", str(tmp_path), "test")
    assert test.size == 1 and test.labels is None


def test_folder_without_splits_and_classes(tmp_path):
    for name in ("b.png", "a.png"):
        _save(tmp_path / name)
    source = open_source("folder", str(tmp_path), "train")
    assert source.describe(0).endswith("a.png") and source.labels is None
    with pytest.raises(MissingSplit, match="test"):
        open_source("folder", str(tmp_path), "test")


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*missing.*data\.data_dir"):
        open_source("folder", str(tmp_path / "missing"), "train")
    (tmp_path / "x.jpg").mkdir()
    with pytest.raises(DataError, match=r"no image in .*data\.data_dir"):
        open_source("folder", str(tmp_path), "train")


def test_a_folder_of_test_images_alone_is_not_taken_for_training(tmp_path):
    for split in ("Train", "test"):
        (tmp_path / split).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / split / "0.png")
    with pytest.raises(DataError, match=r"has Train, test but no 'train'.*data\.train"):
        open_source("folder", str(tmp_path), "train")


def test_unknown_sources_are_refused(tmp_path):
    with pytest.raises(DataError, match="digits, folder or tfds:"):
        open_source("digitz", "", "train")
    with pytest.raises(DataError, match="knows no 'no_such_set'"):
        open_source("tfds:no_such_set", str(tmp_path), "train")
    with pytest.raises(DataError, match=r"not prepared in .*data\.data_dir"):
        open_source("tfds:cifar10", str(tmp_path), "train")


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
            bytes_list=tf.train.BytesList(value=[_encoded(Image.fromarray(_tiny(i)), "PNG")])
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
        np.testing.assert_array_equal(_read(source, i), _tiny(i))
    assert source.labels.tolist() == [0, 1, 2, 0, 1] and source.labels.dtype == np.int32
    part = open_source("tfds:tiny_photos", tfds_dir, "train[2:4]")
    assert part.size == 2 and part.labels.tolist() == source.labels[2:4].tolist()
    np.testing.assert_array_equal(_read(part, 1), _read(source, 3))
    assert open_source("tfds:tiny_photos", tfds_dir, "test").size == 1
    with pytest.raises(MissingSplit, match="it has"):
        open_source("tfds:tiny_photos", tfds_dir, "val")


class Shard:
    def __init__(self, filename, skip, take, examples_in_shard):
        self.filename, self.skip, self.take = filename, skip, take
        self.examples_in_shard = examples_in_shard


def _write_records(path, records):
    frames = (struct.pack("<Q", len(r)) + b"crc1" + r + b"crc2" for r in records)
    path.write_bytes(b"".join(frames))


def test_records_by_hand(tmp_path, monkeypatch):
    a, b = tmp_path / "a", tmp_path / "b"
    _write_records(a, [b"zero", b"", b"two"])
    _write_records(b, [b"three" * 1000, b"four"])
    shards = [Shard(str(a), 1, 2, 3), Shard(str(b), 0, 2, 2)]
    want = [b"", b"two", b"three" * 1000, b"four"]

    record, describe = sources._tfrecords(shards)
    assert [record(i) for i in range(4)] == want
    assert describe(1) == f"{a}, record 2" and describe(3) == f"{b}, record 1"

    # A large set's index is kept on disk, found again, and made anew for changed files.
    monkeypatch.setattr(sources, "CACHE_RECORDS", 1)
    monkeypatch.setattr(sources, "CACHE", tmp_path / "cache")
    for _ in range(2):
        record, _ = sources._tfrecords(shards)
        assert [record(i) for i in range(4)] == want
        assert len(list((tmp_path / "cache").iterdir())) == 1
    _write_records(b, [b"4", b"five"])
    record, _ = sources._tfrecords(shards)
    assert [record(i) for i in range(4)] == [b"", b"two", b"4", b"five"]

    with pytest.raises(DataError, match="holds 2 records"):
        sources._record_places([Shard(str(b), 0, 3, 3)])
