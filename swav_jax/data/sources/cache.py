"""Files that save doing long work again, kept for the user; who cannot write them does without."""

import contextlib
import hashlib
import os
from pathlib import Path

from swav_jax.runtime.machine import cache_folder


def load(key: str) -> bytes | None:
    """What was saved under a key, or None."""
    with contextlib.suppress(OSError):
        if file := _file(key):
            return file.read_bytes()
    return None


def save(key: str, data: bytes) -> None:
    """Keeps data: whole or not at all, whoever else writes them."""
    with contextlib.suppress(OSError):
        if file := _file(key):
            part = file.with_suffix(f".{os.getpid()}")
            part.write_bytes(data)
            part.replace(file)


def _file(key: str) -> Path | None:
    folder = cache_folder()
    return folder and folder / hashlib.sha256(key.encode()).hexdigest()[:32]
