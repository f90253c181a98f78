"""Files that are there whole or not at all, and folders that one run has to itself."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that a kill or a full disk leaves the old one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Makes a folder and keeps other processes that ask for the same out; a kill lets go of it.

    Raises:
      NotADirectoryError: the folder is a bucket's address.
      BlockingIOError: another process is in there.
    """
    if ":/" in str(folder):  # what is left of gs:// in a path
        raise NotADirectoryError(
            f"--workdir={folder} is no folder: mount the bucket, and name the folder all hosts see"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another process trains in {folder}: choose another --workdir, or end that process"
            ) from None
        yield
