import os

import numpy as np
import pytest
from images import smooth

from swav_jax.data.sources import open_source
from swav_jax.data.sources.names import printable, stored
from swav_jax.data.sources.source import DataError, MissingSplit


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(("cat/a.png", "dog/b.png", "dog/c.png")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        smooth(number, 10, 12 + number).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def test_images_come_in_the_order_of_the_list(photos):
    (photos / "list.txt").write_text(f"dog/c.png\n\n{photos}/cat/a.png\ndog/c.png\n")
    source = open_source("folder", str(photos / "list.txt"), "train")
    assert [source.read(i).shape[1] for i in range(source.size)] == [14, 12, 14]
    assert [source.name(i) for i in range(2)] == [f"{photos}/dog/c.png", f"{photos}/cat/a.png"]
    assert [source.class_names[label] for label in source.labels] == ["dog", "cat", "dog"]
    with pytest.raises(MissingSplit):
        open_source("folder", str(photos / "list.txt"), "test")


def test_names_as_tables_print_them_are_found(photos):
    odd = os.fsencode(photos) + b"/caf\xe9\n\\n.png"
    os.rename(photos / "cat" / "a.png", odd)
    (photos / "list.txt").write_text(printable(odd) + "\n")
    source = open_source("folder", str(photos / "list.txt"), "train")
    assert source.path(0) == odd and source.name(0) == printable(odd)


def test_lists_of_other_systems_are_read(photos):
    (photos / "list.txt").write_bytes(b"\xef\xbb\xbfdog/c.png\r\ncat/a.png\r\n")
    assert open_source("folder", str(photos / "list.txt"), "train").size == 2
    (photos / "list.txt").write_bytes("dog/c.png\r\n".encode("utf-16"))
    with pytest.raises(DataError, match="is no plain text: save it as UTF-8"):
        open_source("folder", str(photos / "list.txt"), "train")


@pytest.mark.parametrize(
    "name", [b"plain", b"\xff", b"\n\r\\", "é\u2028".encode(), b"\\n", b"\x01"]
)
def test_printed_names_lead_back(name):
    assert stored(printable(name)) == name


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\n \n", "lists no image"),
        ("dog/b.png\ndog/x.png\n", r"1 of 2 files are not there: .*x\.png"),
    ],
)
def test_lists_without_images_are_refused(photos, text, complaint):
    (photos / "list.txt").write_text(text)
    with pytest.raises(DataError, match=complaint):
        open_source("folder", str(photos / "list.txt"), "train")


def test_part_knows_its_files(photos):
    source = open_source("folder", str(photos), "train")
    part = source.part(np.array([2]), np.array([0], np.int32), ("x",))
    assert part.path(0) == source.path(2)
