"""Whole runs as users start them, killed and interrupted, alone and as several processes."""

import json
import socket
import time

import numpy as np
import pytest
from processes import (
    SMALL,
    SMALLER,
    assert_same_state,
    kill,
    launch,
    metrics,
    saved,
    succeed,
    wait_until,
)

pytestmark = pytest.mark.slow


def lines(workdir):
    path = workdir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def checkpoints(workdir):
    return {path.name for path in (workdir / "checkpoints").glob("[0-9]*") if path.name.isdecimal()}


def test_killed_at_ten_moments_equals_uninterrupted_to_the_bit(tmp_path):
    flags = (*SMALL, "--config.train.steps=60", "--config.checkpoint.every_steps=3")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    succeed(whole, launch(whole, *flags, "--config.profile.steps=5:7"))
    assert list((whole / "profile").rglob("*.xplane.pb"))

    random, in_saves = np.random.RandomState(0), 0
    for kills in range(10):
        process, saved_before = launch(parts, *flags), checkpoints(parts)
        assert wait_until(lambda old=saved_before: checkpoints(parts) - old, process)
        # Half of the kills come at any time after a new checkpoint, the others within a save.
        if kills % 2:
            unfinished = parts / "checkpoints"
            assert wait_until(lambda f=unfinished: any(f.glob("*.partial*")), process)
        else:
            time.sleep(random.uniform(0, 0.3))
        assert process.is_alive(), "the run must not end before it is killed ten times"
        kill(process)
        in_saves += any((parts / "checkpoints").glob("*.partial*"))
    assert in_saves >= 3
    succeed(parts, launch(parts, *flags))

    assert_same_state(saved(whole), saved(parts))
    assert metrics(whole) == metrics(parts)
    assert [line["step"] for line in metrics(parts)] == list(range(1, 61))


def two_processes(workdir, *flags, devices, only_second=(), x64=False):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = (f"--coordinator=localhost:{port}", "--processes=2")
    return [
        launch(workdir, *flags, *together, f"--process={i}", *own, devices=devices, x64=x64)
        for i, own in enumerate(((), only_second))
    ]


def test_sigterm_to_one_of_two_processes_ends_both_and_one_goes_on(tmp_path):
    flags = (*SMALL, "--config.train.steps=60")
    workdir = tmp_path / "run"
    pair = two_processes(workdir, *flags, devices=1)
    assert wait_until(lambda: lines(workdir) > 3, pair[0])
    pair[1].terminate()  # SIGTERM
    for process in pair:
        succeed(workdir, process, code=75)
    stopped = int(saved(workdir)["['step']"])
    assert lines(workdir) == stopped < 60  # both were at the same step

    succeed(workdir, launch(workdir, *flags))
    assert int(saved(workdir)["['step']"]) == 60
    assert [line["step"] for line in metrics(workdir)] == list(range(1, 61))


@pytest.mark.parametrize(
    ("dtype", "lr", "epsilon", "tolerance"),
    [("float64", 0.02, 0.006, 1e-9), ("float32", 0.0001, 0.05, 1e-5)],
    ids=["float64", "float32"],
)
def test_two_processes_of_four_devices_equal_one_device(tmp_path, dtype, lr, epsilon, tolerance):
    """At the full rate in float64; in float32 large steps and sharp codes amplify rounding."""
    flags = (*SMALL, "--config.train.steps=10", f"--config.model.dtype={dtype}")
    flags += (
        f"--config.optim.base_lr={lr}",
        f"--config.method.epsilon={epsilon}",
        "--config.data.test=test",
        "--config.data.eval_resize=16",
        "--config.data.eval_crop=16",
    )
    alone, together = tmp_path / "alone", tmp_path / "together"
    succeed(alone, launch(alone, *flags, x64=dtype == "float64"))
    for process in two_processes(together, *flags, devices=4, x64=dtype == "float64"):
        succeed(together, process)
    expected, found = (
        [line["loss"] for line in metrics(run) if "loss" in line] for run in (alone, together)
    )
    assert len(expected) == 10
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    knn = [json.loads((run / "results.json").read_text())["knn"] for run in (alone, together)]
    assert knn[0] == knn[1] and knn[0]["train_images"] == 1500


TWO_CROPS = "--config.data.crops=((2, 16, 0.8, 1.0),)"
CLUSTERING = {
    "deepcluster": ("--config.data.crops=((1, 16, 0.8, 1.0),)",),
    "deepcluster_v2": (TWO_CROPS,),
    "sela_v2": (TWO_CROPS,),
    "pcl": (
        TWO_CROPS,
        "--config.model.prototypes=80",
        "--config.method.negative_prototypes=16",
        "--config.method.warmup_epochs=0",
    ),
}


@pytest.mark.parametrize("method", CLUSTERING)
def test_two_processes_cluster_as_one(tmp_path, method):
    """Over two epochs, at a rate so small that rounding does not grow into other clusters."""
    flags = (f"--config=configs/quickstart_{method}.py", *SMALLER, *CLUSTERING[method])
    flags += ("--config.train.steps=26", "--config.optim.base_lr=0.0001")
    alone, together = tmp_path / "alone", tmp_path / "together"
    succeed(alone, launch(alone, *flags, devices=2))
    for process in two_processes(together, *flags, devices=1):
        succeed(together, process)
    expected, found = metrics(alone), metrics(together)
    assert [line.keys() for line in found] == [line.keys() for line in expected]
    assert sum("nmi_labels" in line for line in found) == 2
    for ours, theirs in zip(found, expected, strict=True):
        for name in ours.keys() & {"loss", "nmi_labels", "nmi_previous", "inertia_80"}:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, err_msg=name)


def test_prototypes_spread_over_processes_are_refused(tmp_path):
    workdir = tmp_path / "run"
    for process in two_processes(workdir, *SMALL, "--config.mesh.model=2", devices=1):
        succeed(workdir, process, code=1)
    assert (
        "mesh.model 2 spreads prototypes over several processes"
        in (tmp_path / "run.log").read_text()
    )


def test_an_error_in_one_process_ends_both_with_its_message(tmp_path):
    workdir = tmp_path / "run"
    nowhere = ("--config.data.name=folder", f"--config.data.data_dir={tmp_path / 'nowhere'}")
    for process in two_processes(workdir, *SMALL, devices=1, only_second=nowhere):
        succeed(workdir, process, code=1)
    said = (tmp_path / "run.log").read_text()
    assert said.count("there is no folder") == 2
    assert "process 1: error: there is no folder" in said


def test_processes_with_other_settings_are_refused(tmp_path):
    workdir = tmp_path / "run"
    other = ("--config.optim.base_lr=0.5",)
    for process in two_processes(workdir, *SMALL, devices=1, only_second=other):
        succeed(workdir, process, code=1)
    assert "processes 0 and 1 differ in their settings" in (tmp_path / "run.log").read_text()


def test_two_runs_do_not_share_a_workdir(tmp_path):
    workdir = tmp_path / "run"
    first = launch(workdir, *SMALL, "--config.train.steps=1000")
    assert wait_until(lambda: lines(workdir) > 0, first)
    succeed(workdir, launch(workdir, *SMALL, "--config.train.steps=1000"), code=1)
    assert "another process trains in" in (tmp_path / "run.log").read_text()
    assert first.is_alive()
    kill(first)
