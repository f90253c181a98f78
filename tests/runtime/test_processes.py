import socket
import subprocess
import sys

import jax
import pytest
from jax.experimental import multihost_utils

from swav_jax.runtime import processes
from swav_jax.runtime.processes import LaunchError, check_same, join

SRUN = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


@pytest.mark.parametrize("told", [("", 2, 0), ("localhost:1", 0, -1), ("localhost:1", 2, 2)])
def test_processes_must_be_told_all_of_who_they_are(told):
    with pytest.raises(LaunchError, match="must be given together"):
        join(*told)


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        (SRUN, True),
        (SRUN | {"SLURM_NTASKS": "1"}, False),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, False),  # the shell of an interactive allocation
        (SRUN | {"SLURM_STEP_NUM_TASKS": "2"}, True),
        ({k: v for k, v in SRUN.items() if k != "SLURM_STEP_NODELIST"}, False),  # sbatch, no srun
        ({"TPU_WORKER_HOSTNAMES": "10.0.0.2,10.0.0.3"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
    ],
)
def test_clusters_are_known_by_their_environment(environment, several, monkeypatch):
    monkeypatch.setattr(processes.cloud_tpu_init, "running_in_cloud_tpu_vm", False)
    assert processes._in_a_cluster(environment) == several


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def test_who_waits_for_others_says_so_and_gives_up(tmp_path):
    code = (
        "from absl import logging; logging.set_verbosity(logging.INFO)\n"
        "from swav_jax.runtime import processes\n"
        "processes.WAIT_SECONDS = 1\n"
        f"processes.join('localhost:{free_port()}', 2, 0)\n"
    )
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert alone.returncode == 1
    assert "waiting for the 2 processes at localhost:" in alone.stderr
    assert "were not all there after 1 s. Check that" in alone.stderr
    assert "Traceback" not in alone.stderr and "stack trace" not in alone.stderr


def test_processes_with_another_task_are_named(monkeypatch):
    check_same("one process agrees with itself")
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda mine: [mine, mine, mine + 1])
    with pytest.raises(LaunchError, match=r"processes 0 and 2 differ .* process 0 has 9 images"):
        check_same("9 images")


def test_a_failure_is_noticed_after_months(monkeypatch, capsys):
    months = [jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: GetKeyValue() timed out")] * 3
    answers = [*months, "process 1: the disk is full"]

    class Connection:
        def blocking_key_value_get(self, key, timeout_ms):
            assert key == processes.FAILURE
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    ended = []
    monkeypatch.setattr(processes.distributed.global_state, "client", Connection())
    monkeypatch.setattr(processes, "_end", lambda: ended.append(True))
    processes._die_with_the_others()
    assert ended and capsys.readouterr().err == "process 1: the disk is full\n"

    answers.append(jax.errors.JaxRuntimeError("UNAVAILABLE: the service is gone"))
    with pytest.raises(jax.errors.JaxRuntimeError, match="UNAVAILABLE"):
        processes._die_with_the_others()


@pytest.mark.parametrize("lost", [False, True], ids=["all answer", "one is lost"])
def test_process_0_keeps_the_connection_until_the_others_have_ended(lost, monkeypatch):
    done = []

    class Connection:
        def key_value_set(self, key, value, overwrite):
            done.append(key)

        def blocking_key_value_get(self, key, timeout_ms):
            assert 0 < timeout_ms <= 1000 * processes.PATIENCE_SECONDS
            done.append(f"wait for {key}")
            if lost:
                raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED")

    monkeypatch.setattr(processes.distributed.global_state, "client", Connection())
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    monkeypatch.setattr(processes.time, "sleep", lambda seconds: done.append("grace"))
    monkeypatch.setattr(processes.os, "_exit", lambda code: done.append(f"exit {code}"))
    processes.fail("the disk is full")
    waited = ["wait for swav_jax/ending/1", "wait for swav_jax/ending/2", "grace"]
    assert done == ["swav_jax/failure", *(waited[:1] if lost else waited), "exit 1"]

    done.clear()
    monkeypatch.setattr(jax, "process_index", lambda: 2)
    processes.fail("the disk is full")
    assert done == ["swav_jax/failure", "swav_jax/ending/2", "exit 1"]
