import builtins
import errno
import fcntl
import os

import pytest
from absl import logging
from tiny import tiny_swav

from swav_jax import train
from swav_jax.runtime import machine, xla


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: found.append(text % args))
    return found


def test_cores_where_only_their_number_is_known(monkeypatch):
    assert machine.cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert machine.cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cores() == 1


def test_a_cache_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert machine.cache_folder() == tmp_path / "swav_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine.cache_folder() == tmp_path / ".cache" / "swav_jax"


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/slurm/job_7/task_0", {"slurm/job_7": "1000", "slurm/job_7/task_0": "max"}, 1000),
        ("0::/a/b", {"a": "3000", "a/b": "2000"}, 2000),
        ("0::/", {".": "5000"}, 5000),
        ("4:cpu,memory:/docker/12ab\n0::/", {"memory": "4000"}, 4000),
        ("4:memory:/job", {"memory": str(2**63 - 4096), "memory/job": "6000"}, 6000),
        ("4:cpu:/job", {"memory/job": "6000", "job": "6000"}, None),
        (None, {".": "5000"}, None),
    ],
)
def test_memory_is_that_of_the_control_groups(monkeypatch, tmp_path, groups, limits, expected):
    """Of version 2, whole and in a container, and of version 1."""
    if groups:
        (tmp_path / "cgroup").write_text(groups + "\n")
    for folder, limit in limits.items():
        name = "memory.limit_in_bytes" if folder.startswith("memory") else "memory.max"
        (tmp_path / "groups" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / folder / name).write_text(f"{limit}\n")
    monkeypatch.setattr(machine, "GROUPS_OF_PROCESS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "CONTROL_GROUPS", tmp_path / "groups")
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine.memory() == (expected or installed)


def no_home(monkeypatch, tmp_path):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", fail)


def no_folder(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))


def no_writing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)


@pytest.mark.parametrize("missing", [no_home, no_folder, no_writing])
def test_without_a_cache_folder_nothing_is_cached(monkeypatch, tmp_path, missing):
    missing(monkeypatch, tmp_path)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    changed = {}
    monkeypatch.setattr("jax.config.update", changed.__setitem__)
    assert machine.cache_folder() is None
    xla.start()
    assert "jax_compilation_cache_dir" not in changed


def no_module(monkeypatch):
    found = builtins.__import__

    def without(name, *rest):
        if name == "fcntl":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)


def no_flock(monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", fail)


@pytest.mark.parametrize("missing", [no_module, no_flock])
def test_a_file_system_without_locks_is_warned_of_and_trained_on(
    monkeypatch, tmp_path, warnings, missing
):
    missing(monkeypatch)
    config = tiny_swav()
    config.train.steps = 2
    train.pretrain(config, tmp_path / "run")
    assert sum("has no file locks" in warning for warning in warnings) == 1
    assert (tmp_path / "run" / "checkpoints" / "2").is_dir()


def test_memory_is_given_back_where_there_is_no_c_library_to_ask(monkeypatch):
    asked = []

    def fail(name):
        asked.append(name)
        raise TypeError("LoadLibrary() argument 1 must be str, not None")

    monkeypatch.setattr("ctypes.CDLL", fail)
    xla.reuse_freed_memory()
    assert asked == [None]
