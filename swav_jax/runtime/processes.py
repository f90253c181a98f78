"""Several processes as one: they start together, agree, and fail together."""

import contextlib
import os
import socket
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import NoReturn

import jax
import numpy as np
from absl import logging
from jax._src import cloud_tpu_init, distributed  # neither has a public interface
from jax.experimental import multihost_utils
from jaxtyping import Bool

FAILURE = "swav_jax/failure"  # the key under which a failing process leaves its message
ENDING = "swav_jax/ending"  # under which a process says that it ends because of that message
NONE = "none"
WATCH = "watch the other processes"
LONGEST_WAIT_MS = 2**31 - 1  # 24.9 days
# Without these, as in a batch script that does not use srun, JAX finds no other process.
SLURM = ("JOB_ID", "STEP_NODELIST", "NTASKS", "PROCID", "LOCALID")
WAIT_SECONDS = 300  # how long processes wait for each other at the start
PATIENCE_SECONDS = 30.0  # how long process 0 waits for the others to say so; a lost one never does
GRACE_SECONDS = 2.0  # how long it then waits for them to be gone


class LaunchError(ValueError):
    """Processes that are not told who they are, or that differ in what they should do."""


def join(coordinator: str = "", processes: int = 0, process: int = -1) -> None:
    """Connects this process to the others, if there are others.

    On SLURM with several tasks and on TPU pods JAX finds them by itself; elsewhere the arguments or
    the variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID name them.

    Args:
      coordinator: `address:port` of process 0.
      processes: how many there are.
      process: the number of this one.

    Raises:
      LaunchError: only some of the three are given.
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    processes = processes or int(os.environ.get("JAX_NUM_PROCESSES", "0"))
    process = process if process >= 0 else int(os.environ.get("JAX_PROCESS_ID", "-1"))
    if coordinator or processes or process >= 0:
        if not coordinator or not 0 <= process < processes:
            raise LaunchError(
                f"--coordinator={coordinator!r}, --processes={processes} and --process={process} "
                "must be given together, with process numbers from 0 to processes - 1 and the "
                "same coordinator, address:port of process 0, everywhere"
            )
        with _limited_wait(f"the {processes} processes at {coordinator}"):
            jax.distributed.initialize(
                coordinator, processes, process, initialization_timeout=2 * WAIT_SECONDS
            )
    elif _in_a_cluster(os.environ):
        with _limited_wait("the other processes of this job"):
            jax.distributed.initialize(initialization_timeout=2 * WAIT_SECONDS)
    else:
        return
    threading.Thread(target=_die_with_the_others, name=WATCH, daemon=True).start()
    logging.info(
        "process %d of %d with %d of %d devices",
        jax.process_index(),
        jax.process_count(),
        jax.local_device_count(),
        jax.device_count(),
    )
    if jax.process_index():
        logging.set_verbosity(logging.WARNING)


@contextlib.contextmanager
def _limited_wait(others: str) -> Iterator[None]:
    """Says what this process waits for, and ends it if that does not come: JAX would abort."""

    def give_up() -> None:
        print(
            f"error: {others} were not all there after {WAIT_SECONDS} s. Check that each was "
            "started with the same number of processes and the same coordinator, that their "
            "machines reach its address and port, and that no other job uses this port. To train "
            "with this process alone, leave out --coordinator and start it outside of srun.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    logging.info("waiting for %s, at most %d s", others, WAIT_SECONDS)
    timer = threading.Timer(WAIT_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def from_process_0(value: int) -> int:
    """Process 0's value, in every process."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def in_any(flags: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Which of the flags are set in any process, in every process."""
    of_each = np.reshape(multihost_utils.process_allgather(flags), (-1, len(flags)))
    return np.any(of_each, axis=0, keepdims=True)[0]


def on_this_machine() -> int:
    """How many of the processes share this one's memory: by the name of the machine or container.

    All processes ask at the same time.
    """
    name = np.uint32(zlib.crc32(socket.gethostname().encode()))
    return int(np.sum(multihost_utils.process_allgather(name) == name))


def warn(message: str) -> None:
    """Logs a warning that every process would give, once."""
    if jax.process_index() == 0:
        logging.warning("%s", message)


def check_same(what: str) -> None:
    """Checks that all processes have the same text.

    Processes with different settings or images would wait for each other forever.

    Raises:
      LaunchError: in every process, with the first two that differ.
    """
    digest = np.uint32(zlib.crc32(what.encode()))
    digests = np.ravel(multihost_utils.process_allgather(digest))
    others = np.flatnonzero(digests != digests[0])
    if others.size:
        raise LaunchError(
            f"processes 0 and {others[0]} differ in their settings or in their images; "
            f"process {jax.process_index()} has {what}. Start all with the same flags and the "
            "same data"
        )


def _in_a_cluster(environment: Mapping[str, str]) -> bool:
    # A job's tasks need not be the step's: in a shell of `salloc --ntasks=4` there is one process.
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", "1")))
    workers = environment.get("TPU_WORKER_HOSTNAMES", "").split(",")
    slurm = tasks > 1 and all(f"SLURM_{name}" in environment for name in SLURM)
    return slurm or len(workers) > 1 or cloud_tpu_init.running_in_cloud_tpu_vm


def fail(message: str) -> None:
    """Ends all processes with this one's message.

    The others may be waiting for this process inside a collective operation, which no exception of
    theirs would end.
    """
    client = distributed.global_state.client
    print(message, file=sys.stderr, flush=True)
    if client is not None:
        client.key_value_set(FAILURE, f"process {jax.process_index()}: {message}", True)
        _end()


def leave() -> None:
    """Ends the connection when the work is done, once all processes are here."""
    client = distributed.global_state.client
    if client is None:
        return
    client.wait_at_barrier("swav_jax/done", LONGEST_WAIT_MS)
    if jax.process_index() == 0:
        client.key_value_set(FAILURE, NONE, True)
    for thread in threading.enumerate():
        if thread.name == WATCH:
            thread.join()
    jax.distributed.shutdown()


def _die_with_the_others() -> None:
    message = _wait_for_message()
    if message != NONE and not message.startswith(f"process {jax.process_index()}:"):
        print(message, file=sys.stderr, flush=True)
        _end()


def _wait_for_message() -> str:
    """The message of the process that fails first, or NONE; a run may take months."""
    client = distributed.global_state.client
    assert client is not None  # `join` has just made it
    while True:
        try:
            return client.blocking_key_value_get(FAILURE, LONGEST_WAIT_MS)
        except jax.errors.JaxRuntimeError as error:
            if not str(error).startswith("DEADLINE_EXCEEDED"):
                raise


def _end() -> NoReturn:
    """Ends this process, and process 0 after the others.

    The connection lives in process 0. JAX aborts a process that loses it, with a stack trace
    instead of the message.
    """
    client = distributed.global_state.client
    assert client is not None  # a message can only have come through the connection
    logging.flush()
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # a lost process says nothing
        if jax.process_index():
            client.key_value_set(f"{ENDING}/{jax.process_index()}", "", True)
        else:
            end = time.monotonic() + PATIENCE_SECONDS
            for other in range(1, jax.process_count()):
                left_ms = 1000 * (end - time.monotonic())
                client.blocking_key_value_get(f"{ENDING}/{other}", max(1, int(left_ms)))
            time.sleep(GRACE_SECONDS)
    os._exit(1)
