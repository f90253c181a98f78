"""Rows in chunks, for work whose memory must not grow with their number."""


def even_chunk(rows: int, most: int) -> int:
    """The rows of a chunk where all chunks are equally long: the largest divisor up to `most`."""
    return next(chunk for chunk in range(min(rows, most), 0, -1) if rows % chunk == 0)
