"""Checkpoints: the whole training state, written in the background and verified when read.

A checkpoint is a folder `<directory>/<step>` that holds Orbax's files and one of ours, written
last: the seal (see `seal`). `restore` compares the files with it before Orbax reads them, so that
damage is distinguished from other failures, and the leaves on the devices of the next step.

What a kill or a full disk leaves behind is never taken for a checkpoint (see `naming`). With
several processes every method is collective, process 0 alone seals and names, and the directory
must be one that all of them see.
"""

import errno
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.experimental import multihost_utils
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from swav_jax.checkpoints import naming
from swav_jax.checkpoints.read import load_leaves, orbax_reaches, placed
from swav_jax.checkpoints.seal import (
    CheckpointError,
    file_digests,
    leaf_digest,
    read_seal,
    write_seal,
    wrong_files,
    wrong_leaves,
)
from swav_jax.runtime.processes import from_process_0
from swav_jax.runtime.storage import (
    AnyPath,
    copy_folder,
    free_bytes,
    in_bucket,
    located,
    make_folder,
    move_folder,
)
from swav_jax.trees import named_leaves
from swav_jax.workdir import SEAL, saved_steps

DAMAGED = "damaged"


class Checkpoints:
    """The checkpoints of one run, in one directory; only the run that writes them opens it.

    Args:
      directory: where the folders `<step>` are; made if missing. Leftovers of killed saves are
        removed.
      keep_last: how many of the newest checkpoints stay.
      keep_every: those whose step is a multiple of this stay too; 0 for none.
    """

    def __init__(self, directory: str | AnyPath, keep_last: int = 3, keep_every: int = 0):
        if keep_last < 1 or keep_every < 0:
            raise ValueError(f"{keep_last=} must be at least 1 and {keep_every=} at least 0")
        self.directory = located(directory)
        if jax.process_count() > 1 and not orbax_reaches(self.directory):
            raise CheckpointError(
                f"several processes cannot save to {self.directory}: Orbax writes arrays to disks "
                "and to gs:// only. Choose a --workdir there, or train in one process"
            )
        self._keep_last, self._keep_every = keep_last, keep_every
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        if jax.process_index() == 0:
            make_folder(self.directory)
            naming.sweep(self.directory)
            self._check_renaming()
        _meet("checkpoints opened")
        if not in_bucket(self.directory) and not self.directory.is_dir():
            raise CheckpointError(
                f"process {jax.process_index()} does not see {self.directory}, which process 0 "
                "made: all processes need one --workdir, on a disk that they share"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            return self.close()
        # The other processes may not come, so this one ends its own save and waits for nobody.
        self._pool.shutdown()
        if self._pending and (failure := self._pending.exception()):
            logging.error("%s", failure)

    @property
    def latest_step(self) -> int | None:
        """The newest complete checkpoint's step; whether it is intact is found by `restore`."""
        return max(saved_steps(self.directory), default=None)

    def save(self, step: int, state: PyTree, metadata: Mapping[str, Any]) -> None:
        """Starts a save, and returns once the state is copied: it may be donated right away.

        Waits for the save before it. A step that is already saved is left as it is.

        Args:
          step: number of training steps done; names the folder.
          state: pytree of jax arrays, on any devices.
          metadata: anything that JSON can hold, such as the run's config.

        Raises:
          CheckpointError: the disk is full, or the save before this one failed.
        """
        self.wait()
        if from_process_0(step in saved_steps(self.directory)):
            logging.info("The checkpoint of step %d is there already.", step)
            return
        leaves = named_leaves(state)
        contents = {
            "step": step,
            "metadata": json.loads(json.dumps(metadata)),
            "leaves": {name: _describe(leaf) for name, leaf in leaves.items()},
        }
        needed = sum(leaf.nbytes for leaf in leaves.values())
        with self._explained(step, needed):
            if from_process_0(free_bytes(self.directory) < needed):
                raise OSError(errno.ENOSPC, "No space left on device")
        digests = {name: leaf_digest(leaf) for name, leaf in leaves.items()}
        stored = unflatten_dict({k: v for k, v in leaves.items() if v.size}, sep="/")
        context = ocp.Context()
        saving = context.array_options.saving
        saving.use_compression = False  # it takes 40 % longer and saves 7 % of the bytes
        saving.use_replica_parallel = False  # it compiles a program for every shape, 0.5 s each
        folder = naming.unfinished(self.directory, step)
        staging = None if orbax_reaches(folder) else tempfile.TemporaryDirectory()
        written = located(staging.name) / folder.name if staging else folder
        with self._explained(step, needed), context:
            response = ocp.save_async(written, stored)

        def finish() -> None:
            with self._explained(step, needed), staging or nullcontext():
                response.result()
                if jax.process_index() == 0:
                    _check_index(written, contents["leaves"])
                    if staging:
                        copy_folder(written, folder)
                    for name, digest in jax.device_get(digests).items():
                        contents["leaves"][name]["digest"] = int(digest)
                    write_seal(folder, contents | {"files": file_digests(written)})
                    self._commit(step)

        self._pending = self._pool.submit(finish)

    def wait(self) -> None:
        """Returns when the last save is complete in every process.

        Raises:
          CheckpointError: it failed, in this process or in another.
        """
        if self._pending is None:
            return
        error = self._pending.exception()
        self._pending = None
        failed = multihost_utils.process_allgather(np.int32(error is not None))
        if error is not None:
            raise error
        if failed.any():
            raise CheckpointError(
                f"saving to {self.directory} failed in process {int(failed.argmax())}; see its log"
            )

    def close(self) -> None:
        """Waits for the last save and ends the background thread."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()

    def restore(
        self, target: PyTree, approve: Callable[[dict[str, Any]], None] = lambda metadata: None
    ) -> tuple[PyTree, dict[str, Any]] | None:
        """The newest intact checkpoint, after setting aside every damaged one that is newer.

        Args:
          target: the state's pytree with `jax.ShapeDtypeStruct` leaves, or arrays. Their shardings
            say where the arrays go; those of the saving run do not matter.
          approve: called with the metadata before target and checkpoint are compared; raises an
            error of its own to refuse them.

        Returns:
          `(state, metadata)`, or None in a directory where nothing was ever saved.

        Raises:
          CheckpointError: there were checkpoints, and all of them are damaged; or Orbax cannot read
            one whose files are intact (out of memory, say), which is left where it is; or the
            target has other leaves, shapes or dtypes than the checkpoint.
        """
        self.wait()
        wanted = {name: placed(leaf) for name, leaf in named_leaves(target).items()}
        while (step := from_process_0(-1 if self.latest_step is None else self.latest_step)) >= 0:
            folder = self.directory / str(step)
            # Process 0 reads every file once; the others rely on it.
            damage = wrong_files(folder) if jax.process_index() == 0 else ""
            if not from_process_0(bool(damage)):
                seal = read_seal(folder)
                approve(seal["metadata"])
                _check_match(folder, seal["leaves"], wanted)
                loaded = load_leaves(folder, wanted)
                damage = wrong_leaves(loaded, seal["leaves"])
                if not damage:
                    logging.info("Restored the checkpoint of step %d from %s.", step, folder)
                    leaves = [loaded[name] for name in wanted]
                    return jax.tree.unflatten(jax.tree.structure(target), leaves), seal["metadata"]
            if jax.process_index() == 0:
                self._set_aside(folder, damage)
            _meet(f"checkpoint {step} set aside")
        if from_process_0((self.directory / DAMAGED).exists()):
            raise CheckpointError(
                f"every checkpoint in {self.directory} is damaged; they are kept in "
                f"{self.directory / DAMAGED}. Move that folder away to start afresh."
            )
        return None

    def _commit(self, step: int) -> None:
        """Names what was saved and sealed, then drops what need not be kept."""
        naming.finish(self.directory, step)
        logging.info("Saved the checkpoint of step %d in %s.", step, self.directory)
        for old in sorted(saved_steps(self.directory))[: -self._keep_last]:
            if not self._keep_every or old % self._keep_every:
                naming.drop(self.directory, old)
        naming.sweep(self.directory)

    def _check_renaming(self) -> None:
        """Refuses a file system on which a save could not end."""
        if in_bucket(self.directory):
            return
        probe = self.directory / "probe.partial"
        probe.mkdir()
        try:
            probe.rename(self.directory / "renamed.partial")
        except OSError as error:
            raise CheckpointError(
                f"folders in {self.directory} cannot be renamed ({error.strerror}), and so no save "
                "can be completed. Mount a bucket by gcsfuse with --rename-dir-limit=1000000, or "
                "choose a --workdir on another file system"
            ) from None
        finally:
            naming.sweep(self.directory)

    def _set_aside(self, folder: AnyPath, reason: str) -> None:
        aside = self.directory / DAMAGED
        make_folder(aside)
        place, copies = aside / folder.name, 1
        while place.exists():
            copies += 1
            place = aside / f"{folder.name}-{copies}"
        move_folder(folder, place, last=SEAL)
        logging.error(
            "The checkpoint %s is damaged: %s. It was moved to %s; falling back to an earlier one.",
            folder, reason, place,
        )  # fmt: skip

    @contextmanager
    def _explained(self, step: int, needed: int) -> Iterator[None]:
        """Removes what a failed save has written, and says what failed and what to do."""
        try:
            yield
        except Exception as error:
            free = free_bytes(self.directory)
            if jax.process_index() == 0:
                naming.sweep(self.directory)
            full = free < needed or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            remedy = "Make room, or keep fewer of them, and run" if full else "Run"
            room = f", where {free:,} bytes are free and it needs {needed:,}"
            raise CheckpointError(
                f"the checkpoint of step {step} could not be saved in {self.directory}"
                f"{'' if in_bucket(self.directory) else room}: {error}. The earlier ones are "
                f"intact. {remedy} the same command again."
            ) from error


def _check_index(folder: AnyPath, saved: dict[str, Any]) -> None:
    """Raises CheckpointError unless Orbax finds all arrays again in what it has written."""
    found = flatten_dict(ocp.metadata(folder).metadata or {}, sep="/")
    lost = [
        name
        for name, leaf in saved.items()
        if 0 not in leaf["shape"]  # Orbax stores no empty arrays
        and (name not in found or list(found[name].shape) != leaf["shape"])
    ]
    if lost:
        raise CheckpointError(
            f"{len(lost)} of {len(saved)} arrays cannot be found in {folder}, {lost[0]} first"
        )


def _describe(leaf: Any) -> dict[str, Any]:
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _check_match(folder: AnyPath, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises CheckpointError with the first leaves in which checkpoint and target differ."""

    def show(leaf: dict[str, Any] | None) -> str:
        return f"{leaf['dtype']}{leaf['shape']}" if leaf else "nothing"

    ours = {name: _describe(leaf) for name, leaf in wanted.items()}
    found = {name: {k: leaf[k] for k in ("shape", "dtype")} for name, leaf in saved.items()}
    names = [name for name in {**ours, **found} if ours.get(name) != found.get(name)]
    if names:
        differences = "; ".join(
            f"{name}: {show(found.get(name))} saved, {show(ours.get(name))} expected"
            for name in names[:5]
        )
        raise CheckpointError(
            f"{folder} is of another model, optimiser or method: {len(names)} leaves differ "
            f"({differences}). Use the config of the run that saved it, or another workdir."
        )


def _meet(where: str) -> None:
    """Returns when every process has come here."""
    multihost_utils.sync_global_devices(where)
