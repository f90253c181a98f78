"""Folders on disks and in buckets (gs://, s3://), and what can be done with the files of either.

A bucket holds objects: each is written whole or not at all, and none can be appended to, renamed or
locked. A folder there is no more than the beginning of names.
"""

import functools
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from etils import epath

AnyPath: TypeAlias = Path | epath.Path  # on a disk, or in a bucket

BUCKETS = {"gs://": "gcsfs", "s3://": "s3fs"}  # and the package that reaches each
TAIL_LINES = 100  # that are added to an object before it is written anew


def located(path: str | AnyPath) -> AnyPath:
    """The absolute path of a file or folder on a disk, or its address in a bucket.

    Raises:
      NotADirectoryError: it is an address of another kind, or empty.
      OSError: the package that reaches this kind of bucket is missing.
    """
    text = os.fspath(path)
    if not text:
        raise NotADirectoryError("a folder has an empty name: give one; the current folder is .")
    if in_bucket(path):
        package = BUCKETS[f"{text.partition('://')[0]}://"]
        _prepare(package)
        return epath.Path(text)
    if "://" in text:
        raise NotADirectoryError(f"{text} is no folder: give one, or {' or '.join(BUCKETS)}...")
    return Path(path).expanduser().absolute()


def in_bucket(path: str | AnyPath) -> bool:
    """Whether a path is an address in a bucket."""
    return os.fspath(path).startswith(tuple(BUCKETS))


@functools.cache
def _prepare(package: str) -> None:
    if not find_spec(package):
        raise OSError(f"buckets of this kind need the package {package}: pip install {package}")
    import fsspec

    # TensorFlow knows gs:// alone, and its errors are no OSErrors. epath asks this once.
    os.environ["EPATH_USE_TF"] = "false"
    epath.gpath._is_tf_installed.cache_clear()
    for name in ("gcsfs", "fsspec", "aiobotocore", "botocore"):  # a line for each object
        logging.getLogger(name).setLevel(logging.ERROR)
    for protocol in ("gs", "gcs", "s3"):  # a list that is kept does not show what others write
        fsspec.config.conf.setdefault(protocol, {})["use_listings_cache"] = False


def make_folder(folder: AnyPath) -> None:
    """Makes a folder on a disk; a bucket needs none."""
    if not in_bucket(folder):
        folder.mkdir(parents=True, exist_ok=True)


def check_writable(folder: AnyPath) -> None:
    """Checks, before anything is computed, that results can be written into a folder.

    For one that is not there yet, the folder above it counts. A bucket is not asked: only an object
    that is written shows it.

    Raises:
      OSError: they cannot.
    """
    if in_bucket(folder):
        return
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as problem:
        raise OSError(
            f"{folder} cannot be written to ({problem.strerror}), but results go there: ask for "
            "write access, or choose another --workdir, such as a copy of the run"
        ) from None


def write_whole(path: AnyPath, contents: str | bytes) -> None:
    """Writes a file atomically: after a crash or on a full disk the old one is intact."""
    data = contents.encode() if isinstance(contents, str) else contents
    if in_bucket(path):
        with bucket_errors(path):
            path.write_bytes(data)
        return
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)


@contextmanager
def bucket_errors(path: AnyPath) -> Iterator[None]:
    """Turns the errors of a write to a bucket, of which each package has its own, into OSError."""
    try:
        yield
    except FileExistsError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise OSError(f"{path.parent} cannot be written to: {text}") from error


def append(path: AnyPath, line: str) -> None:
    """Adds a line to a file. `read_appended` gives all of them, whenever the process ends.

    In a bucket new lines go to a second object, the tail, and from there to the end of the first.
    A process calls `settle` before its first line.
    """
    if not in_bucket(path):
        with path.open("a") as file:
            file.write(line)
        return
    tail = _tail(path)
    lines = _text(tail) + line
    write_whole(tail, lines)
    if not path.exists() or lines.count("\n") >= TAIL_LINES:
        settle(path)


def read_appended(path: AnyPath) -> str:
    """All of a file to which lines were appended; empty if there is none."""
    text, tail = _text(path), _text(_tail(path)) if in_bucket(path) else ""
    return text if text.endswith(tail) else text + tail  # a kill may have left it in both


def settle(path: AnyPath) -> None:
    """Puts all lines that were appended into the one file, for other programs."""
    if in_bucket(path) and _tail(path).exists():
        write_whole(path, read_appended(path))
        with bucket_errors(path):
            _tail(path).unlink(missing_ok=True)


def _tail(path: AnyPath) -> AnyPath:
    return path.with_name(f"{path.name}.tail")


def _text(path: AnyPath) -> str:
    return path.read_text() if path.exists() else ""


def entries(folder: AnyPath) -> list[AnyPath]:
    """What is in a folder, by name; nothing if it is none."""
    try:
        return sorted(folder.iterdir(), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def files_below(folder: AnyPath) -> list[AnyPath]:
    """All files in a folder and its folders, by name."""
    return [
        file
        for entry in entries(folder)
        for file in (files_below(entry) if entry.is_dir() else [entry])
    ]


def copy_folder(source: AnyPath, target: AnyPath, *, last: str = "") -> None:
    """Copies all files of a folder; the one named `last` when all others are there."""
    for file in sorted(files_below(source), key=lambda file: file.name == last):
        copy_file(file, target / file.relative_to(source))


def copy_file(source: AnyPath, target: AnyPath) -> None:
    """Copies a file, and makes the folder that it goes to."""
    make_folder(target.parent)
    with source.open("rb") as reading, target.open("wb") as writing:
        shutil.copyfileobj(reading, writing, 2**24)


def remove_folder(folder: AnyPath) -> None:
    """Removes a folder with all that can be removed."""
    if in_bucket(folder):
        epath.Path(folder).rmtree(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def move_folder(source: AnyPath, target: AnyPath, *, last: str = "") -> None:
    """Gives a folder another name; in a bucket by copying it, and the file named `last` last."""
    if not in_bucket(source):
        source.rename(target)
        return
    copy_folder(source, target, last=last)
    (source / last).unlink(missing_ok=True)
    remove_folder(source)


def free_bytes(folder: AnyPath) -> float:
    """The room that is left on a disk; a bucket has no end."""
    return math.inf if in_bucket(folder) else shutil.disk_usage(folder).free


@contextmanager
def written_on_disk(folder: AnyPath) -> Iterator[AnyPath]:
    """A folder on a disk for what cannot write to buckets; its files are copied there at the end.

    It is the folder itself if that is on a disk.
    """
    if not in_bucket(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)
        copy_folder(Path(place), folder)
