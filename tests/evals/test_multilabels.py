import dataclasses

import numpy as np
import pytest
import tensorflow_datasets as tfds
from prepared import prepare, tiny

from swav_jax.data.sources import open_source
from swav_jax.data.sources.source import DataError
from swav_jax.evals.multilabels import multi_labels


def files(*paths):
    return dataclasses.replace(
        open_source("digits", "", "test"), size=len(paths), describe=lambda i: paths[i]
    )


TRAIN = files("top/train/a.jpg", "top/train/b.jpg", "top/train/c.jpg")
TEST = files("top/test/a.jpg", "top/test/d.jpg")


def written(tmp_path, *lines):
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_rows_find_their_images_by_as_much_of_the_path_as_tells_them_apart(tmp_path):
    csv = written(
        tmp_path,
        "path,cat,dog",
        "test/a.jpg,0,1",
        "c.jpg,-1,1",
        "train/a.jpg,1,0",
        "d.jpg,0,0",
        "elsewhere.jpg,1,1",
    )
    (numbers, labels), (test_numbers, test_labels) = multi_labels(TRAIN, TEST, csv)
    by_number = dict(zip(numbers.tolist(), labels.present.tolist(), strict=True))
    assert by_number == {0: [1, 0], 2: [-1, 1]} and labels.class_names == ("cat", "dog")
    assert test_numbers.tolist() == [0, 1] and test_labels.present.tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "the first line must be path"),
        (("file,cat", "train/a.jpg,1"), "the first line must be path"),
        (("path,cat", "train/a.jpg,1", "c.jpg,2"), r"line 3: .*'c.jpg,2'"),
        (("path,cat,dog", "train/a.jpg,1"), "line 2: .* 2 classes"),
        (("path,cat", "c.jpg,1", "c.jpg,1"), "line 3: .* of another image"),
        (("path,cat", "a.jpg,1"), r"'a.jpg' is top/train/a.jpg and top/test/a.jpg"),
        (("path,cat", "c.jpg,1"), "names none of 2 images, top/test/a.jpg first"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        multi_labels(TRAIN, TEST, written(tmp_path, *lines))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("path,café\nc.jpg,1\n".encode("cp1252"), "CSV file in UTF-8: .* 0xe9"),
        ("path,cat\nc.jpg,1\n".encode("utf-16"), "save it as UTF-8"),
        (b"path,cat\nc.jpg,1\0\n", "save it as UTF-8"),
        (b'path,cat\n"' + b"c.jpg,1\n" * 20_000, "CSV file in UTF-8: field larger"),
    ],
)
def test_a_file_in_another_encoding_is_refused(tmp_path, contents, message):
    path = tmp_path / "labels.csv"
    path.write_bytes(contents)
    with pytest.raises(DataError, match=f"labels.csv is no .*{message}"):
        multi_labels(TRAIN, TEST, str(path))


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("path,café\nc.jpg,1\nd.jpg,0\n", "utf-8-sig")
    (_, labels), _ = multi_labels(TRAIN, TEST, str(path))
    assert labels.class_names == ("café",)


def test_lists_of_a_data_set_with_those_hard_to_see_apart(tmp_path):
    classes = tfds.features.Sequence(tfds.features.ClassLabel(names=["cat", "dog", "cow"]))
    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "labels": classes,
        "labels_no_difficult": classes,
    }
    lists = [([0, 2], [2]), ([], []), ([1, 1], [1])]
    examples = [
        {"image": tiny(i), "labels": every, "labels_no_difficult": easy}
        for i, (every, easy) in enumerate(lists)
    ]
    prepare(tmp_path, "photos", features, {"train": [examples], "test": [examples[2:]]})
    train, test = (open_source("tfds:photos", str(tmp_path), split) for split in ("train", "test"))
    assert train.labels is None
    (numbers, labels), (_, judged) = multi_labels(train, test)
    assert labels.class_names == ("cat", "dog", "cow") and numbers.tolist() == [0, 1, 2]
    assert labels.present.tolist() == [[-1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert judged.present.tolist() == [[0, 1, 0]] and judged.present.dtype == np.int8
    assert multi_labels(TRAIN, TEST) is None
