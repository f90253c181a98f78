"""Records of a TFDS split by their number, and indices of them that are kept on disk."""

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from swav_jax.data.sources import cache
from swav_jax.data.sources.source import DataError

CACHE_RECORDS = 200_000  # a record index of at least this many records is kept on disk

Shards = Sequence[Any]  # tfds's FileInstructions: filename, skip, take, examples_in_shard
Place = Callable[[int], tuple[str, int]]  # the file of a record, and its number there
RandomAccess = tuple[Callable[[int], bytes], Place]


def array_records(shards: Shards) -> RandomAccess:
    """Random access to ArrayRecord files."""
    # Without type information, as tfds is.
    from array_record.python import array_record_data_source  # type: ignore[import-untyped]

    records = array_record_data_source.ArrayRecordDataSource(shards)
    return lambda i: records[int(i)], _places(shards)


def tfrecords(shards: Shards) -> RandomAccess:
    """Random access to TFRecord files by the place of each record, found once.

    A TFRecord is: length (8 bytes), its checksum (4), the record, its checksum (4).
    """
    place = _places(shards)
    offsets, lengths = kept("records", shards, lambda: _record_places(shards))

    def record(i: int) -> bytes:
        file = os.open(place(i)[0], os.O_RDONLY)
        try:
            data = os.pread(file, int(lengths[i]), int(offsets[i]))
        finally:
            os.close(file)
        if len(data) != lengths[i]:
            raise OSError(f"{place(i)[0]} ends within record {place(i)[1]}")
        return data

    return record, place


def _places(shards: Shards) -> Place:
    files = [os.path.abspath(shard.filename) for shard in shards]
    first = np.cumsum([0] + [shard.take for shard in shards])

    def place(i: int) -> tuple[str, int]:
        shard = int(np.searchsorted(first, i, side="right")) - 1
        return files[shard], int(i) - int(first[shard]) + shards[shard].skip

    return place


def kept(what: str, shards: Shards, make: Callable[[], np.ndarray]) -> np.ndarray:
    """`make()`, kept on disk if the shards are many records; a changed shard is another key."""
    if sum(shard.take for shard in shards) < CACHE_RECORDS:
        return make()
    key = [what]
    for shard in shards:
        stat = os.stat(shard.filename)
        path = os.path.abspath(shard.filename)
        key.append(f"{path} {shard.skip} {shard.take} {stat.st_size} {stat.st_mtime_ns}")
    if data := cache.load(repr(key)):
        with contextlib.suppress(ValueError):  # it is damaged
            return np.load(io.BytesIO(data))
    file, array = io.BytesIO(), make()
    np.save(file, array)
    cache.save(repr(key), file.getvalue())
    return array


def _record_places(shards: Shards) -> np.ndarray:
    """Offset and length in bytes of every record's payload: int64 [2, N]."""
    with ThreadPoolExecutor(16) as pool:  # the disk's latency is the cost, not the processor
        return np.concatenate(list(pool.map(_shard_places, shards))).T.copy()


def _shard_places(shard: Any) -> np.ndarray:
    places = np.empty((shard.skip + shard.take, 2), np.int64)
    file = os.open(shard.filename, os.O_RDONLY)
    try:
        offset, size = 0, os.fstat(file).st_size
        for n in range(len(places)):
            header = os.pread(file, 8, offset)
            if len(header) < 8:
                raise DataError(
                    f"{shard.filename} holds {n} records where its data set says "
                    f"{shard.examples_in_shard}: prepare the data set again"
                )
            length = min(int.from_bytes(header, "little"), size)  # a damaged one may be anything
            places[n] = offset + 12, length
            offset += 12 + length + 4
    finally:
        os.close(file)
    return places[shard.skip :]
