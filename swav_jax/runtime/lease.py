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
def lease(path: AnyPath) -> Iterator[None]:
    """Holds the lease at a path in a bucket. A process that loses it to another one ends.

    Raises:
      BlockingIOError: a living process holds it; the message names that process.
    """
    token, ended = uuid.uuid4().hex, threading.Event()
    _take(path, token)
    renewing = threading.Thread(target=_renew, args=(path, token, ended), name="lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        if _read(path).get("token") == token:
            path.unlink(missing_ok=True)


def _take(path: AnyPath, token: str) -> None:
    filesystem, _ = fsspec.url_to_fs(str(path))
    mine = False
    while not mine:
        try:
            with bucket_errors(path):
                filesystem.pipe_file(str(path), _written(token), mode="create")
            mine = True
        except FileExistsError:
            _wait_until_stale(path)
            # Two processes may come here at once: of their leases the one written last stays.
            write_whole(path, _written(token))
            time.sleep(LOOK_SECONDS)
            mine = _read(path).get("token") == token


def _wait_until_stale(path: AnyPath) -> None:
    """Returns when a lease is not renewed any more; raises BlockingIOError when it is."""
    found, start = _read(path), time.monotonic()
    owner = "process {pid} on {host}".format(**{"pid": "?", "host": "?"} | found)
    logging.info(
        "%s is there, of %s: waiting for %g s to see whether that process is alive",
        path, owner, STALE_SECONDS,
    )  # fmt: skip
    while time.monotonic() - start < STALE_SECONDS:
        time.sleep(min(LOOK_SECONDS, STALE_SECONDS))
        if (now := _read(path)) and now != found:
            raise BlockingIOError(
                f"another process trains in {path.parent}, {owner}: choose another --workdir, or "
                "end that process"
            )
        if not now:  # it has just ended
            return
    logging.warning("%s was of %s, which has ended: taken over", path, owner)


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
