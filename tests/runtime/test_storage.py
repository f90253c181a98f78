import os
from pathlib import Path

import bucket
import pytest
from bucket import OBJECTS

from swav_jax.runtime import storage
from swav_jax.runtime.storage import (
    append,
    check_writable,
    entries,
    files_below,
    free_bytes,
    located,
    move_folder,
    read_appended,
    settle,
    write_whole,
    written_on_disk,
)


@pytest.fixture(params=["disk", "gs", "s3"])
def folder(request, tmp_path, monkeypatch):
    if request.param == "disk":
        yield located(tmp_path)
        return
    with bucket.served(monkeypatch):
        yield located(f"{request.param}://bucket/run")


def test_paths_are_addresses_in_buckets_and_absolute_on_disks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert located("~/runs") == Path("/home/me/runs")
    assert located("runs") == tmp_path / "runs"
    with pytest.raises(NotADirectoryError, match="hf://me/run is no folder"):
        located("hf://me/run")
    with bucket.served(monkeypatch):
        run = located("gs://bucket/run")
        assert str(run / "config.json") == "gs://bucket/run/config.json"
        assert located(run) == run
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind, package", storage.BUCKETS.items())
def test_a_missing_package_is_named_with_its_installation(kind, package, monkeypatch):
    monkeypatch.setattr(storage, "find_spec", lambda name: None)
    storage._prepare.cache_clear()
    with pytest.raises(OSError, match=f"pip install {package}"):
        located(f"{kind}bucket/run")


def test_lines_are_there_as_soon_as_they_are_appended(folder, monkeypatch):
    monkeypatch.setattr(storage, "TAIL_LINES", 3)
    file, text = folder / "lines", ""
    for number in range(8):
        append(file, f"{number}\n")
        text += f"{number}\n"
        assert file.exists()
        assert read_appended(file) == text
    settle(file)
    settle(file)
    assert file.read_text() == read_appended(file) == text
    assert [entry.name for entry in entries(folder)] == ["lines"]


def killed(*args, **kwargs):
    raise KeyboardInterrupt


def test_a_kill_between_two_writes_of_a_bucket_doubles_no_line(monkeypatch):
    with bucket.served(monkeypatch):
        file = located("gs://bucket/lines")
        for line in "abc":
            append(file, f"{line}\n")
        with monkeypatch.context() as patch:
            patch.setattr(bucket.Bucket, "rm", killed)
            with pytest.raises(KeyboardInterrupt):
                settle(file)
        assert read_appended(file) == "a\nb\nc\n"
        settle(file)
        assert file.read_text() == read_appended(file) == "a\nb\nc\n"

        monkeypatch.setattr(storage, "TAIL_LINES", 2)
        append(file, "d\n")
        with monkeypatch.context() as patch:
            patch.setattr(bucket.Bucket, "rm", killed)
            with pytest.raises(KeyboardInterrupt):
                append(file, "e\n")  # which makes the tail long enough
        assert read_appended(file) == "a\nb\nc\nd\ne\n"


def test_folders_move_with_all_that_is_below_them(folder):
    storage.make_folder(folder / "one" / "deep")
    for name in ("seal", "deep/file", "z"):
        write_whole(folder / "one" / name, name)
    move_folder(folder / "one", folder / "two", last="seal")
    assert not entries(folder / "one")
    found = {str(f.relative_to(folder)): f.read_text() for f in files_below(folder)}
    assert found == {"two/deep/file": "deep/file", "two/seal": "seal", "two/z": "z"}


def test_what_only_disks_take_is_copied_to_a_bucket(folder):
    with written_on_disk(folder / "trace") as place:
        (place / "deep").mkdir(parents=True)
        (place / "deep" / "file").write_text("seen")
    assert (folder / "trace" / "deep" / "file").read_text() == "seen"
    assert free_bytes(folder) > 1e6


def test_what_cannot_be_written_to_is_said(folder, tmp_path):
    check_writable(folder / "runs" / "mine")
    assert not entries(folder) and not entries(tmp_path)
    (tmp_path / "file").write_text("")
    for place in ("file", "file/mine"):
        with pytest.raises(OSError, match=rf"{place} cannot be written to \(Not a directory\)"):
            check_writable(tmp_path / place)


@pytest.mark.skipif(not hasattr(os, "geteuid") or not os.geteuid(), reason="root may write all")
def test_a_folder_of_someone_else_is_not_written_to(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="ask for write access, or choose another --workdir"):
        check_writable(tmp_path)
    tmp_path.chmod(0o700)


def test_a_copy_ends_with_its_last_file(monkeypatch):
    with bucket.served(monkeypatch):
        for name in ("a", "seal", "z"):
            OBJECTS.put(f"bucket/one/{name}", b"")
        storage.copy_folder(located("gs://bucket/one"), located("gs://bucket/two"), last="seal")
        written = sorted(
            (generation, name)
            for name, (_, generation, _) in OBJECTS.kept.items()
            if name.startswith("bucket/two")
        )
        assert [name for _, name in written] == ["bucket/two/a", "bucket/two/z", "bucket/two/seal"]
