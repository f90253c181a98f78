import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from images import smooth
from PIL import Image, features
from pixels import RGB, SMOOTH, encoded, read

from swav_jax.data.sources import files as files_lib
from swav_jax.data.sources import open_source
from swav_jax.data.sources.pixels import Pixels
from swav_jax.data.sources.source import DataError, MissingSplit


def save(path, image=RGB, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def opened(top, split="train", **settings):
    return open_source("folder", str(top), split, pixels=Pixels(**settings))


def names(source):
    return [source.describe(i).rpartition("/")[2] for i in range(source.size)]


# ---- classes and splits --------------------------------------------------------------------------


def test_folder_with_classes(tmp_path):
    names = ["train/cat/b.png", "train/cat/a.JPG", "train/ant/deep/c.bmp", "test/cat/d.png"]
    for name in names:
        save(tmp_path / name)
    (tmp_path / "train/cat/notes.txt").write_text("no image")
    (tmp_path / "train/cat/._a.jpg").write_text("a hidden file")
    train = opened(tmp_path)
    assert [train.describe(i) for i in range(train.size)] == [
        str(tmp_path / name) for name in (names[2], names[1], names[0])
    ]
    assert train.labels.tolist() == [0, 1, 1] and train.labels.dtype == np.int32
    assert train.class_names == ("ant", "cat")
    np.testing.assert_array_equal(read(train, 2), SMOOTH)
    assert train.notes == (f"left out of {tmp_path}/train: hidden (1 .jpg), no image (1 .txt)",)
    test = opened(tmp_path, "test")
    assert test.size == 1 and test.labels is None and not test.notes


def test_folder_without_splits_and_classes(tmp_path):
    for name in ("b.png", "a.png"):
        save(tmp_path / name)
    source = opened(tmp_path)
    assert source.describe(0).endswith("a.png") and source.labels is None
    with pytest.raises(MissingSplit, match="no folder 'test' in"):
        opened(tmp_path, "test")


def test_folders_without_images_are_refused(tmp_path):
    for missing in ("", str(tmp_path / "missing")):
        with pytest.raises(DataError, match=r"no folder .*data\.data_dir"):
            opened(missing)
    (tmp_path / "x.jpg").mkdir()
    (tmp_path / "a.svg").write_text("<svg/>")
    with pytest.raises(DataError, match=r"no image in .*\(1 \.svg\).*\. Name a folder .*TIFF"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("folders", "flags"),
    [
        (("training_set", "test_set"), "data.train=training_set --config.data.test=test_set"),
        (("Train", "test"), "data.train=Train --config.data.test=test"),
        (("seg_train", "seg_test", "seg_pred"), "data.train=seg_train --config.data.test=seg_test"),
        (("cat", "dog", "val"), "like --config.data.test=val"),
        (("TrainImages",), "like --config.data.train=TrainImages"),
    ],
)
def test_splits_of_any_name_are_trained_on_only_if_asked(tmp_path, folders, flags):
    for folder in folders:
        save(tmp_path / folder / "0.png")
    with pytest.raises(DataError, match=f"but no 'train'.*{flags}.*data.train=. reads them all"):
        opened(tmp_path)
    assert opened(tmp_path, folders[0]).size == 1
    classes = tuple(sorted(folders)) if len(folders) > 2 else ()  # splits alone are no classes
    assert opened(tmp_path, ".").class_names == classes


def test_a_missing_test_split_names_those_that_are_there(tmp_path):
    for folder in ("train", "test_set"):
        save(tmp_path / folder / "0.png")
    with pytest.raises(MissingSplit, match=r"it has test_set: --config\.eval\.test=test_set"):
        opened(tmp_path, "test")
    with pytest.raises(MissingSplit, match=r"it has train\)"):
        opened(tmp_path, "training")


@pytest.mark.parametrize(
    ("data_dir", "split", "inside"),
    [
        (".", "train", "photos/test/0.png"),  # one folder further down than thought
        (".", "train", "cat/seg_test/0.png"),  # classes before splits
        (".", "train", "train/validation/0.png"),
        (".", "photos", "photos/val/cat/0.png"),
    ],
)
def test_images_of_another_split_are_not_trained_on(tmp_path, data_dir, split, inside):
    save(tmp_path / inside)
    save(tmp_path / inside.replace("test", "more").replace("val", "more"))
    with pytest.raises(DataError, match=r"would be trained on.*data\.train"):
        opened(tmp_path / data_dir, split)
    everything = f"{split}/." if inside.startswith(split) else "."
    assert opened(tmp_path / data_dir, everything).size == 2


def test_classes_in_a_folder_of_training_images_may_be_called_anything_else(tmp_path):
    for name in ("bus", "train", "test_tube"):
        save(tmp_path / "train" / name / "0.png")
        save(tmp_path / "test" / name / "0.png")
    for split in ("train", "test"):
        assert opened(tmp_path, split).class_names == ("bus", "test_tube", "train")


def test_what_lies_beside_the_splits_is_said(tmp_path):
    for name in ("train/0.png", "test/0.png", "bus/0.png", "truck/0.png", "1.png"):
        save(tmp_path / name)
    assert opened(tmp_path).notes == (
        f"of {tmp_path} only train is trained on, not bus, truck, 1 images beside them",
    )
    assert not opened(tmp_path, "test").notes


def test_images_beside_the_folders_of_classes_are_said(tmp_path):
    for name in ("ant/0.png", "bee/0.png", "0.png"):
        save(tmp_path / name)
    source = opened(tmp_path)
    assert source.labels is None and "1 of 3 lie beside" in source.notes[0]


def test_class_names_of_train_and_test_have_one_unicode_form(tmp_path):
    for split, form in (("train", "NFC"), ("test", "NFD")):
        for name in ("caf\u00e9", "tea"):
            save(tmp_path / split / unicodedata.normalize(form, name) / "0.png")
    assert opened(tmp_path, "train").class_names == opened(tmp_path, "test").class_names


# ---- files ---------------------------------------------------------------------------------------


def test_every_format_is_read_by_its_content(tmp_path):
    kinds = ["JPEG", "PNG", "TIFF", "PPM", "JPEG2000", "WEBP", "BMP", "GIF"]
    kinds += ["AVIF"] * features.check("avif")
    for kind in kinds:
        options = {"lossless": True} if kind == "WEBP" else {}
        save(tmp_path / f"of_{kind}", format=kind, **options)
        save(tmp_path / f"named_{kind}.jpg", format=kind, **options)
    source = opened(tmp_path)
    assert source.size == 2 * len(kinds) and not source.notes
    for i in range(source.size):
        assert np.abs(read(source, i).astype(int) - SMOOTH).mean() < 12


def test_folders_of_tiffs_alone(tmp_path):
    for name in ("cat/0.tif", "dog/0.TIFF"):
        save(tmp_path / "train" / name)
    source = opened(tmp_path)
    assert source.class_names == ("cat", "dog")
    np.testing.assert_array_equal(read(source, 1), SMOOTH)


def test_links_back_to_a_folder_double_no_image(tmp_path):
    for name in ("disc", "bar"):
        save(tmp_path / "store" / name / "0.png")
        (tmp_path / "data" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "train" / name).symlink_to(tmp_path / "store" / name)
    (tmp_path / "store" / "disc" / "all").symlink_to(tmp_path / "data" / "train")
    source = opened(tmp_path / "data")
    assert source.class_names == ("bar", "disc") and source.labels.tolist() == [0, 1]
    assert "folder disc/all" in source.notes[0]


ODD_NAMES = [
    "a b.JPG",
    "c\nd.jpeg",
    "e'\"f.PNG",
    "%20#[x]*?.Jpeg",
    "-flag.bmp",
    "ü.gif",
    "a\\b.png",
]


def test_odd_names_are_read(tmp_path):
    places = [tmp_path / "train" / name for name in ("with space", "日本語 🙂", "x:")]
    for n, place in enumerate(places):
        for k, name in enumerate(ODD_NAMES):
            save(place / name, smooth(10 * n + k, 20, 20))
    latin = os.fsencode(places[0]) + b"/caf\xe9.jpg"
    os.link(places[0] / "a b.JPG", latin)
    source = opened(tmp_path)
    assert source.size == 22 and not source.notes
    for i in range(source.size):
        assert read(source, i).shape == (20, 20, 3)
        assert source.describe(i).splitlines() == [source.describe(i)]
    assert sum(name == "caf\\xe9.jpg" for name in names(source)) == 1


@pytest.mark.slow  # it starts Python and TensorFlow anew
def test_a_shell_without_utf8_reads_the_same(tmp_path):
    save(tmp_path / "train" / "日本語 🙂" / "ü.png")
    save(tmp_path / "train" / "tea" / "0.png")
    program = """
import sys
from swav_jax.data.sources import folder as folders_lib
from swav_jax.data.sources import open_source
source = open_source("folder", sys.argv[1], "train")
print(sys.getfilesystemencoding(), source.read(1).shape, ascii(source.class_names))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert ended.stdout == f"ascii (25, 35, 3) {('tea', '日本語 🙂')!a}\n", ended.stderr


def test_a_data_set_whose_own_path_is_no_utf8(tmp_path):
    top = os.path.join(bytes(tmp_path), b"caf\xe9")
    os.mkdir(top)
    with open(os.path.join(top, b"\xe8.png"), "wb") as file:
        file.write(encoded(RGB, "PNG"))
    source = opened(os.fsdecode(top))
    assert read(source, 0).shape == SMOOTH.shape
    assert source.describe(0).endswith("/caf\\xe9/\\xe8.png")


def test_paths_go_where_the_system_goes_not_where_their_text_does(tmp_path):
    save(tmp_path / "far" / "data" / "0.png")
    (tmp_path / "near").symlink_to(tmp_path / "far" / "data")
    assert read(opened(tmp_path / "near" / ".." / "data"), 0).shape == SMOOTH.shape


def test_relative_folders(tmp_path, monkeypatch):
    save(tmp_path / "0.png")
    monkeypatch.chdir(tmp_path)
    source = opened(".")
    assert read(source, 0).shape == SMOOTH.shape and source.describe(0) == "./0.png"


# ---- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_white_level_is_that_of_the_training_images(tmp_path, suffix):
    for split, largest in (("train", 4080), ("test", 300)):
        for n in range(3):
            values = np.linspace(0, largest, 20 * 20, dtype=np.uint16).reshape(20, 20)
            save(tmp_path / split / f"{n}.{suffix}", Image.fromarray(values))
    train = opened(tmp_path)
    assert train.pixels.white_level == 4095 and "white is 4095" in train.notes[0]
    assert read(train, 0).max() == 4080 >> 4 and len(np.unique(read(train, 0))) > 200
    test = open_source("folder", str(tmp_path), "test", pixels=train.pixels)
    assert read(test, 0).max() == 300 >> 4 and not test.notes


def test_a_rare_suffix_is_looked_at_too(tmp_path):
    for n in range(100):
        (tmp_path / f"{n:03}.jpg").write_bytes(encoded(RGB, "JPEG"))
    save(tmp_path / "050.tif", Image.fromarray(np.full((20, 20), 900, np.uint16)))
    assert opened(tmp_path).pixels.white_level == 1023


def test_of_files_that_are_numbered_by_suffix_a_few_are_looked_at(tmp_path, monkeypatch):
    looked_at = []
    monkeypatch.setattr(
        files_lib, "first_look", lambda _, some, p: (p, looked_at.extend(some) or [], 0.0)
    )
    for n in range(100):
        (tmp_path / f"scan.{n:03}").write_bytes(encoded(RGB, "PNG"))
    opened(tmp_path)
    assert len(looked_at) == 32


def test_the_reason_of_an_unreadable_image(tmp_path):
    save(tmp_path / "0.png")
    save(tmp_path / "1.png")
    source = opened(tmp_path)
    (tmp_path / "0.png").write_bytes(b"<html>")
    (tmp_path / "1.png").unlink()
    assert source.explain(0) == "no image: it begins with b'<html>'"
    assert source.explain(1) == "No such file or directory"


def test_heic_is_read_with_its_plugin(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    monkeypatch.setattr(heif.options, "SAVE_HDR_TO_12_BIT", True)
    large = RGB.resize((70, 50))
    transparent = large.convert("RGBA")
    transparent.putalpha(0)
    exif = Image.Exif()
    exif[274] = 6  # HEIC has a turn of its own, which its decoder has applied already
    deep = np.asarray(large).astype(np.uint16) << 8
    heif.from_bytes("RGB;16", large.size, deep.tobytes()).save(tmp_path / "deep.heic", quality=-1)
    save(tmp_path / "plain.heic", large, quality=-1, chroma=444)
    save(tmp_path / "seen.heif", transparent)
    save(tmp_path / "turned.heic", large, quality=-1, exif=exif)
    data = (tmp_path / "plain.heic").read_bytes()
    (tmp_path / "another.jpg").write_bytes(data)
    (tmp_path / "cut.heic").write_bytes(data[: len(data) // 2])

    source = opened(tmp_path, exif_orientation=True)
    assert names(source) == [
        "another.jpg", "cut.heic", "deep.heic", "plain.heic", "seen.heif", "turned.heic"
    ]  # fmt: skip
    shown = [read(source, i) for i in (0, 2, 3, 5)]
    for image in shown:
        assert np.abs(image.astype(int) - np.asarray(large)).mean() < 4
    assert read(source, 4).min() == 255
    assert read(source, 1).size == 0 and source.explain(1).startswith("damaged: ")
