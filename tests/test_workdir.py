from pathlib import Path

import pytest

from swav_jax.workdir import alone_in, write_whole


def test_a_file_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_whole(path, "old")

    def full(self, text):
        with self.open("w") as file:
            file.write(text[:1])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            write_whole(path, "new")
    assert path.read_text() == "old"
    write_whole(path, "new")
    assert path.read_text() == "new"


def test_one_process_at_a_time(tmp_path):
    with (
        alone_in(tmp_path / "run"),
        pytest.raises(BlockingIOError, match="another process trains in"),
        alone_in(tmp_path / "run"),
    ):
        pass
    with alone_in(tmp_path / "run"):
        pass


def test_a_bucket_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotADirectoryError, match="mount the bucket"), alone_in(Path("gs://b/run")):
        pass
    assert list(tmp_path.iterdir()) == []
