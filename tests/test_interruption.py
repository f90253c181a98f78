"""Whole runs as users start them, killed and interrupted, alone and as several processes."""

import json
import re
import shutil
import time
from importlib import import_module

import numpy as np
import pytest
from processes import (
    SMALL,
    SMALLER,
    SWAV,
    assert_same_state,
    free_address,
    kill,
    launch,
    launch_two,
    metrics,
    run_main,
    saved,
    start,
    succeed,
    train_by_one_and_by_two,
    wait_until,
)

from swav_jax import features
from swav_jax.evals import labelled

pytestmark = pytest.mark.slow


def lines(workdir):
    path = workdir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def trained_steps(workdir):
    """The steps whose lines are of training; others are of evaluations."""
    return [line["step"] for line in metrics(workdir) if "loss" in line]


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
    assert trained_steps(parts) == list(range(1, 61))


def test_sigterm_to_one_of_two_processes_ends_both_and_one_goes_on(tmp_path):
    flags = (*SMALL, "--config.train.steps=60")
    workdir = tmp_path / "run"
    pair = launch_two(workdir, *flags, devices=1)
    assert wait_until(lambda: lines(workdir) > 3, pair[0])
    pair[1].terminate()  # SIGTERM
    succeed(workdir, *pair, code=75)
    stopped = int(saved(workdir)["['step']"])
    assert lines(workdir) == stopped < 60  # both were at the same step

    succeed(workdir, launch(workdir, *flags))
    assert int(saved(workdir)["['step']"]) == 60
    assert trained_steps(workdir) == list(range(1, 61))


def run_evaluating_slowly(workdir, flags):
    """`main.py`, with a second for each batch of the evaluations of a network that was trained."""
    one_pass = labelled.one_pass

    def slowly(*arguments, **settings):
        for batch in one_pass(*arguments, **settings):
            if lines(workdir):
                print("evaluates a batch", flush=True)
                time.sleep(1)
            yield batch

    labelled.one_pass = slowly
    run_main(workdir, flags, devices=1)


def test_sigterm_in_an_evaluation_ends_both_processes_after_a_batch(tmp_path):
    workdir, coordinator = tmp_path / "run", f"--coordinator={free_address()}"
    flags = (*SMALL, "--config.data.test=test", "--config.eval.batch_size=64", coordinator)
    flags += ("--processes=2", "--config.eval.knn_every_epochs=1", "--config.train.epochs=2")
    (tmp_path / "run.log").touch()
    pair = [start(run_evaluating_slowly, workdir, (*flags, f"--process={i}")) for i in (0, 1)]

    def evaluated():
        return (tmp_path / "run.log").read_text().count("evaluates a batch")

    assert wait_until(evaluated, pair[0])
    pair[1].terminate()  # SIGTERM
    succeed(workdir, *pair, code=75)
    assert evaluated() < 2 * 15  # of 2 * 29
    assert int(saved(workdir)["['step']"]) == lines(workdir) == 23  # those of an epoch


def run_in_small_pieces(workdir, flags):
    """`main.py` with features of two images a piece, slowly; says where it begins to compute."""
    embed_images, features.PIECE = features.embed_images, 2 * 16

    def slowly(apply, variables, images, first):
        print(f"computes from image {first}", flush=True)
        for batch in embed_images(apply, variables, images, first):
            time.sleep(0.2)
            yield batch

    features.embed_images = slowly
    run_main(workdir, flags, devices=1)


@pytest.mark.parametrize("task", ["embed", "cluster"])
def test_a_task_killed_within_its_features_equals_one_in_one_go(workdir, photos, tmp_path, task):
    whole = shutil.copytree(workdir, tmp_path / "whole")
    given = (f"--config.eval.data_dir={photos}", "--config.eval.batch_size=2")
    flags = (
        f"--task={task}",
        *given,
        "--config.eval.cluster_by=kmeans",
        "--config.eval.clusters=3",
    )

    def pieces():
        files = (workdir / "features").glob("*/[0-9]*.npy")
        return {path: path.stat().st_mtime_ns for path in files}

    succeed(whole, start(run_in_small_pieces, whole, flags))
    process = start(run_in_small_pieces, workdir, flags)
    assert wait_until(lambda: len(pieces()) > 1, process)
    kill(process)
    kept, outputs = pieces(), {path.name for path in whole.iterdir() if path.is_file()}
    rows = sum(int(path.stem.split("-")[1]) for path in kept)
    assert 0 < rows < 14 and len(outputs) > len([p for p in workdir.iterdir() if p.is_file()])
    succeed(workdir, start(run_in_small_pieces, workdir, flags))

    said = (tmp_path / "run.log").read_text()
    begun = re.findall(r"computes from image (\d+)", said)
    assert begun[:2] == ["0", str(rows)]  # those of the random network come afterwards
    assert begun[2:] == (["0"] if task == "cluster" else [])
    assert kept.items() < pieces().items()
    for name in outputs:
        assert (workdir / name).read_bytes() == (whole / name).read_bytes(), name


def quickstart(method="", **settings):
    """The configuration of a quickstart, with settings in place of its own."""
    config = import_module(f"configs.quickstart{method and '_'}{method}").get_config()
    config.update_from_flattened_dict(settings)
    return config


def test_two_processes_of_four_devices_equal_one_device(tmp_path):
    """At the full rate in float64; in float32 large steps and sharp codes amplify rounding."""
    settings = SWAV | {"train.steps": 10, "data.test": "test"}
    exact = {"model.dtype": "float64", "optim.base_lr": 0.02, "method.epsilon": 0.006}
    rounded = {"model.dtype": "float32", "optim.base_lr": 0.0001, "method.epsilon": 0.05}
    configs = {"exact": quickstart(**settings | exact), "rounded": quickstart(**settings | rounded)}
    train_by_one_and_by_two(tmp_path, configs, alone=1, each=4)
    for name, tolerance in (("exact", 1e-9), ("rounded", 1e-5)):
        runs = tmp_path / "alone" / name, tmp_path / "together" / name
        expected, found = (
            [line["loss"] for line in metrics(run) if "loss" in line] for run in runs
        )
        assert len(expected) == 10
        np.testing.assert_allclose(found, expected, rtol=tolerance, err_msg=name)
        knn = [json.loads((run / "results.json").read_text())["knn"] for run in runs]
        assert knn[0] == knn[1] and knn[0]["train_images"] == 1500


def test_two_processes_cluster_as_one(tmp_path):
    """Over two epochs, at a rate so small that rounding does not grow into other clusters."""
    settings = SMALLER | {"train.steps": 26, "optim.base_lr": 0.0001}
    two_crops = {"data.crops": ((2, 16, 0.8, 1.0),)}
    few = {"model.prototypes": 80, "method.negative_prototypes": 16, "method.warmup_epochs": 0}
    own = {
        "deepcluster": {"data.crops": ((1, 16, 0.8, 1.0),)},
        "deepcluster_v2": two_crops,
        "sela_v2": two_crops,
        "pcl": two_crops | few,
    }
    configs = {method: quickstart(method, **settings | own[method]) for method in own}
    train_by_one_and_by_two(tmp_path, configs, alone=2, each=1)
    for method in own:
        expected, found = (metrics(tmp_path / by / method) for by in ("alone", "together"))
        assert [line.keys() for line in found] == [line.keys() for line in expected]
        assert sum("nmi_labels" in line for line in found) == 2
        for ours, theirs in zip(found, expected, strict=True):
            for name in ours.keys() & {"loss", "nmi_labels", "nmi_previous", "inertia_80"}:
                np.testing.assert_allclose(
                    ours[name], theirs[name], rtol=1e-5, err_msg=f"{method} {name}"
                )


def test_prototypes_spread_over_processes_are_refused(tmp_path):
    workdir = tmp_path / "run"
    succeed(workdir, *launch_two(workdir, *SMALL, "--config.mesh.model=2", devices=1), code=1)
    assert (
        "mesh.model 2 spreads prototypes over several processes"
        in (tmp_path / "run.log").read_text()
    )


def test_an_error_in_one_process_ends_both_with_its_message(tmp_path):
    workdir = tmp_path / "run"
    nowhere = ("--config.data.name=folder", f"--config.data.data_dir={tmp_path / 'nowhere'}")
    succeed(workdir, *launch_two(workdir, *SMALL, devices=1, only_second=nowhere), code=1)
    said = (tmp_path / "run.log").read_text()
    assert said.count("there is no folder") == 2
    assert "process 1: error: there is no folder" in said


def test_processes_with_other_settings_are_refused(tmp_path):
    workdir = tmp_path / "run"
    other = ("--config.optim.base_lr=0.5",)
    succeed(workdir, *launch_two(workdir, *SMALL, devices=1, only_second=other), code=1)
    assert "processes 0 and 1 differ in their settings" in (tmp_path / "run.log").read_text()


def test_two_runs_do_not_share_a_workdir(tmp_path):
    workdir = tmp_path / "run"
    first = launch(workdir, *SMALL, "--config.train.steps=1000")
    assert wait_until(lambda: lines(workdir) > 0, first)
    succeed(workdir, launch(workdir, *SMALL, "--config.train.steps=1000"), code=1)
    assert "another process trains in" in (tmp_path / "run.log").read_text()
    assert first.is_alive()
    kill(first)
