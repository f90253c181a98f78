import struct

import pytest

from swav_jax.data.sources import records
from swav_jax.data.sources.source import DataError


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

    record, place = records.tfrecords(shards)
    assert [record(i) for i in range(4)] == want
    assert place(1) == (str(a), 2) and place(3) == (str(b), 1)

    # A large set's index is kept on disk, found again, and made anew for changed files.
    monkeypatch.setattr(records, "CACHE_RECORDS", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        record, _ = records.tfrecords(shards)
        assert [record(i) for i in range(4)] == want
        assert len(list((tmp_path / "cache" / "swav_jax").iterdir())) == 1
    _write_records(b, [b"4", b"five"])
    record, _ = records.tfrecords(shards)
    assert [record(i) for i in range(4)] == [b"", b"two", b"4", b"five"]

    a.write_bytes(bytes([255]) * 40)  # lengths beyond any file
    with pytest.raises(DataError, match="holds 1 records"):
        records._record_places([Shard(str(a), 0, 2, 2)])
    with pytest.raises(DataError, match="holds 2 records"):
        records._record_places([Shard(str(b), 0, 3, 3)])
