import numpy as np
import pytest
from PIL import Image
from pixels import RGB, SMOOTH, read

from swav_jax.data.sources import open_source
from swav_jax.data.sources.source import DataError, MissingSplit


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
    np.testing.assert_array_equal(read(train, 2), SMOOTH)
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
