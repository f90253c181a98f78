import os

import numpy as np
import pytest

from swav_jax.data.sources import is_own_folder, open_source
from swav_jax.data.sources.memory import open_arrays
from swav_jax.data.sources.source import DataError


def test_unknown_sources_are_refused(tmp_path):
    with pytest.raises(DataError, match="digits, folder, npz or tfds:"):
        open_source("digitz", "", "train")
    with pytest.raises(DataError, match=r"data\.label_key name features .* is 'digits'"):
        open_source("digits", "", "train", label_key="label")
    with pytest.raises(DataError, match="knows no 'no_such_set'"):
        open_source("tfds:no_such_set", str(tmp_path), "train")
    with pytest.raises(DataError, match=r"not prepared in .*data\.data_dir"):
        open_source("tfds:cifar10", str(tmp_path), "train")


def test_an_own_folder_holds_files_wherever_its_links_lead(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "loop" / name).mkdir(parents=True)
    for name, other in (("a", "b"), ("b", "a"), ("a", "a")):
        (tmp_path / "loop" / name / f"to {other}").symlink_to(tmp_path / "loop" / other)
        (tmp_path / "loop" / name / f"top {other}").symlink_to(tmp_path / "loop")
    assert not is_own_folder(str(tmp_path / "loop"))
    (tmp_path / "loop" / "b" / "0.png").touch()
    assert is_own_folder(str(tmp_path / "loop"))
    assert not is_own_folder(str(tmp_path / "none"))


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def closed(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(DataError, match=r"closed cannot be listed \(Permission denied\)"):
        is_own_folder(str(tmp_path))


def test_a_digest_tells_which_images_a_source_has_and_in_what_order(tmp_path):
    train, test = (open_source("digits", "", split) for split in ("train", "test"))
    images = np.arange(4 * 27, dtype=np.uint8).reshape(4, 3, 3, 3)
    np.savez(tmp_path / "images.npz", train=images, test=images[::-1])
    packed, turned = (
        open_source("npz", str(tmp_path / "images.npz"), split) for split in ("train", "test")
    )
    labels = np.zeros(3, np.int32)
    some, others = (packed.part(np.array(of), labels, ()) for of in ([0, 1, 3], [0, 3, 1]))
    sources = [train, test, packed, turned, some, others]
    assert len({source.digest for source in sources}) == len(sources)
    assert packed.digest == open_arrays(list(images)).digest
    assert packed.part(np.arange(4), np.zeros(4, np.int32), ("a",)).digest == packed.digest
