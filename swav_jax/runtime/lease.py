"""Keeps other processes out of a folder in a bucket, by an object that names its owner.

Buckets have no locks that end with a process. The owner of a lease writes it anew every few
seconds; one that nobody writes any more is of a dead process, and the next process takes it over.
Clocks of two machines are never compared.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import fsspec
from absl import logging

from swav_jax.runtime import processes
from swav_jax.runtime.storage import AnyPath, bucket_errors, write_whole

RENEW_SECONDS = 15.0
STALE_SECONDS = 60.0  # without renewal
LOOK_SECONDS = 5.0  # between two looks at another process's lease


@contextmanager
def lease(path: AnyPath, *, wait: bool = False) -> Iterator[None]:
    """Holds the lease at a path in a bucket. A process that loses it to another one ends.

    Args:
      path: of the object.
      wait: for a living process that holds it, until that one has ended or is done.

    Raises:
      BlockingIOError: a living process holds it, and this one does not wait; the message names that
        process.
    """
    token, ended = uuid.uuid4().hex, threading.Event()
    _take(path, token, wait)
    renewing = threading.Thread(target=_renew, args=(path, token, ended), name="lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        if _read(path).get("token") == token:
            path.unlink(missing_ok=True)


def _take(path: AnyPath, token: str, wait: bool) -> None:
    filesystem, _ = fsspec.url_to_fs(str(path))
    mine = False
    while not mine:
        try:
            with bucket_errors(path):
                filesystem.pipe_file(str(path), _written(token), mode="create")
            mine = True
        except FileExistsError:
            if _is_left(path, wait):
                # Two processes may come here at once: of their leases the one written last stays.
                write_whole(path, _written(token))
                time.sleep(LOOK_SECONDS)
                mine = _read(path).get("token") == token


def _is_left(path: AnyPath, wait: bool) -> bool:
    """Whether a lease is of a dead process, once that is known; False if it is given back.

    Raises:
      BlockingIOError: it is of a living process, and this one does not `wait`.
    """
    found, start = _read(path), time.monotonic()
    logging.info(
        "%s is there, of %s: waiting for %s", path, _owner(found),
        "it" if wait else f"{STALE_SECONDS:g} s to see whether that process is alive",
    )  # fmt: skip
    while time.monotonic() - start < STALE_SECONDS:
        time.sleep(min(LOOK_SECONDS, STALE_SECONDS))
        if not path.exists():
            return False
        if (now := _read(path)) and now != found:
            if not wait:
                raise BlockingIOError(
                    f"another process trains in {path.parent}, {_owner(found)}: choose another "
                    "--workdir, or end that process"
                )
            found, start = now, time.monotonic()
    logging.warning("%s was of %s, which has ended: taken over", path, _owner(found))
    return True


def _owner(found: dict[str, str]) -> str:
    return "process {pid} on {host}".format(**{"pid": "?", "host": "?"} | found)


def _renew(path: AnyPath, token: str, ended: threading.Event) -> None:
    while not ended.wait(RENEW_SECONDS):
        try:
            owner = _read(path)
            if owner.get("token", token) == token:
                write_whole(path, _written(token))
                continue
        except Exception as error:  # the bucket may answer again before others take over
            logging.warning("%s could not be renewed: %s", path, error)
            continue
        processes.fail(
            "error: process {pid} on {host} has taken over {folder}, because this process did not "
            "reach it for a while".format(**owner, folder=path.parent)
        )
        os._exit(1)


def _read(path: AnyPath) -> dict[str, str]:
    """What the lease says; empty if there is none, or another kind of file."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _written(token: str) -> bytes:
    now = datetime.now(UTC).isoformat()
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "time": now, "token": token}
    return json.dumps(owner).encode()
