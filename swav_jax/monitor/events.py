"""The curves of a run for TensorBoard, in its own format; needs no TensorFlow."""

import io
import socket
import time
from collections.abc import Mapping
from typing import BinaryIO

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from swav_jax.runtime.storage import AnyPath, in_bucket, make_folder, write_whole

POINTS = 100  # of a file in a bucket, where each is written whole


class Events:
    """New event files in a folder: one on a disk, one after another in a bucket.

    Args:
      folder: of all event files of the run.
      first_step: TensorBoard forgets what older files hold of this step and of later ones; its fast
        loader does so for each curve when a new point of it comes.
    """

    def __init__(self, folder: AnyPath, first_step: int) -> None:
        self._folder, self._bucket = folder, in_bucket(folder)
        make_folder(folder)
        self._begin()
        self._add(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def _begin(self) -> None:
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)  # readers sort the files by name
        name = f"events.out.tfevents.{seconds:010d}.{nanoseconds:09d}.{socket.gethostname()}"
        self._path, self._points = self._folder / name, 0
        self._file: BinaryIO = io.BytesIO() if self._bucket else self._path.open("xb")
        self._records = RecordWriter(self._file)
        self._add(Event(file_version="brain.Event:2"))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds a point to the curve of each metric."""
        points = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._add(Event(step=step, summary=Summary(value=points)))
        self._points += 1
        if self._bucket and self._points == POINTS:
            self.close()
            self._begin()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()

    def close(self) -> None:
        """Closes the file."""
        if isinstance(self._file, io.BytesIO):
            write_whole(self._path, self._file.getvalue())
        self._records.close()
