"""What the operating system offers, asked for and never assumed: cores, a cache folder, locks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from absl import logging

GROUPS_OF_PROCESS, CONTROL_GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores() -> int:
    """The processors that this process may use; all of them where only Linux could say which."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its control groups' limit."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([installed, *_group_limits()])


def _group_limits() -> Iterator[int]:
    """Limits of this process's control group and of those above it, in bytes (cgroups(7))."""
    try:
        groups = GROUPS_OF_PROCESS.read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in groups:
        _, controllers, name = line.split(":", 2)
        if not controllers:  # version 2
            top, limit = CONTROL_GROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            top, limit = CONTROL_GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        # A container may see the groups from its own down, by names that start further up.
        group = top / name.lstrip("/")
        for folder in (group, *group.parents):
            with suppress(OSError, ValueError):  # ValueError: `max`, no limit
                yield int((folder / limit).read_text())


def cache_folder() -> Path | None:
    """The user's folder for what can be made again, or None where nothing can be written.

    It is `swav_jax` in XDG_CACHE_HOME, or else in `.cache` of the home folder.
    """
    try:
        parent = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = parent / "swav_jax"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return None
    return folder if os.access(folder, os.W_OK) else None


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Waits until no other process is in a block of this file, where there are file locks.

    Raises:
      OSError: the file cannot be written to.
    """
    with path.open("w") as file:
        try:
            lock(file)
        except BlockingIOError:
            logging.info("another process has %s: waiting for it", path)
            lock(file, wait=True)
        yield


def lock(file: IO[str], *, wait: bool = False) -> bool:
    """Locks an open file until it is closed or the process ends.

    Args:
      file: to lock.
      wait: for another process that has the lock.

    Returns:
      whether it is locked: some systems have no such locks, and some file systems (Lustre without
      `-o flock`, some network mounts) refuse them.

    Raises:
      BlockingIOError: another process has the lock, and this one does not wait.
    """
    try:
        import fcntl  # not on Windows
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True
