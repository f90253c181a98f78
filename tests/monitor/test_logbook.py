import json

import bucket
import pytest
from absl import logging
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from swav_jax.monitor.logbook import Logbook
from swav_jax.runtime.storage import copy_folder, located
from swav_jax.workdir import read_metrics


def open_logbook(workdir, first_step=0, active=True):
    return Logbook(workdir, first_step=first_step, total_steps=9, batch_size=8, active=active)


def record(workdir, first_step, steps, loss):
    logbook = open_logbook(workdir, first_step)
    for step in steps:
        logbook.write(step, step / 3, {"loss": loss})
    logbook.close()


def drawn(workdir):
    """The (step, loss) pairs that TensorBoard shows."""
    events = EventAccumulator(str(workdir / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def written(workdir):
    return [(line["step"], line["loss"]) for line in lines(workdir)]


@pytest.mark.parametrize("cut_off", [False, True])
def test_steps_that_are_made_again_are_recorded_once(tmp_path, cut_off):
    record(tmp_path, 0, range(1, 6), loss=1.0)
    if cut_off:  # as by a kill
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 6, "lo')
    record(tmp_path, 3, range(4, 10), loss=2.0)
    expected = [(step, 1.0 if step <= 3 else 2.0) for step in range(1, 10)]
    assert written(tmp_path) == drawn(tmp_path) == expected


@pytest.mark.parametrize("first_step", [4, 5])
def test_a_kill_takes_no_line_and_no_point_from_a_bucket(tmp_path, monkeypatch, first_step):
    for module in ("events", "logbook"):
        monkeypatch.setattr(f"swav_jax.monitor.{module}.POINTS", 3)
    with bucket.served(monkeypatch):
        workdir = located("gs://bucket/run")
        killed = open_logbook(workdir)  # and never closed
        for step in range(1, 6):
            killed.write(step, step / 3, {"loss": 1.0})
        assert len(read_metrics(workdir)) == 5
        record(workdir, first_step, range(first_step + 1, 10), loss=2.0)
        copy_folder(workdir, tmp_path)
    expected = [(step, 1.0 if step <= first_step else 2.0) for step in range(1, 10)]
    assert written(tmp_path) == drawn(tmp_path) == expected


def test_a_run_that_resumes_where_it_stopped_keeps_all(tmp_path):
    record(tmp_path, 0, range(1, 4), loss=1.0)
    record(tmp_path, 3, range(4, 7), loss=2.0)
    expected = [(step, 1.0 if step <= 3 else 2.0) for step in range(1, 7)]
    assert written(tmp_path) == drawn(tmp_path) == expected


def test_evaluations_after_the_last_step_are_made_again(tmp_path):
    logbook = open_logbook(tmp_path)
    for step in (1, 2, 3):
        logbook.write(step, step / 3, {"loss": 1.0})
        logbook.write(step, step / 3, {"knn_top1": 50.0})
    logbook.close()
    open_logbook(tmp_path, first_step=3).close()
    kept = [(line["step"], "loss" in line) for line in lines(tmp_path)]
    assert kept == [(1, True), (1, False), (2, True), (2, False), (3, True)]


def test_a_file_of_an_earlier_version_counts_steps_done_from_now_on(tmp_path):
    """Training steps were counted from 0, and evaluations by the steps done before them."""
    old = [{"step": s, "loss": 1.0} for s in range(5)]
    old[2:2], old[4:4] = [{"step": 2, "knn_top1": 50.0}], [{"step": 3, "knn_top1": 60.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
    record(tmp_path, 3, (4, 5), loss=2.0)
    kept = [(line["step"], line.get("loss")) for line in lines(tmp_path)]
    assert kept == [(1, 1.0), (2, 1.0), (2, None), (3, 1.0), (4, 2.0), (5, 2.0)]
    record(tmp_path, 4, (5,), loss=3.0)  # which must not count them once more
    kept = [(line["step"], line.get("loss")) for line in lines(tmp_path)]
    assert kept == [(1, 1.0), (2, 1.0), (2, None), (3, 1.0), (4, 2.0), (5, 3.0)]


def test_the_past_of_a_run_without_checkpoints_is_set_aside(tmp_path):
    for loss in (1.0, 2.0, 3.0):
        record(tmp_path, 0, (1, 2, 3), loss)
    assert written(tmp_path) == drawn(tmp_path) == [(step, 3.0) for step in (1, 2, 3)]
    for n, loss in enumerate((1.0, 2.0)):
        past = (tmp_path / f"metrics.{n}.jsonl").read_text().splitlines()
        assert [json.loads(line)["loss"] for line in past] == [loss] * 3
    (tmp_path / "metrics.0.jsonl").unlink()
    record(tmp_path, 0, (1, 2, 3), loss=4.0)
    assert '"loss": 2.0' in (tmp_path / "metrics.1.jsonl").read_text()


def test_the_terminal_counts_steps_done_too(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(logging, "info", lambda text, *args: said.append(text % args))
    logbook = open_logbook(tmp_path)
    logbook.write(3, 1.0, {"loss": 1.5})
    logbook.write(3, 1.0, {"knn_top1": 50.0})
    logbook.write(9, 3.0, {"knn_top1": 60.0})
    logbook.close()
    assert said == [
        "step 3/9  epoch 1.00  loss 1.5",
        "step 3/9  epoch 1.00  knn_top1 50",
        "step 9/9  epoch 3.00  knn_top1 60",
    ]


def test_throughput_leaves_out_compilation_and_pauses(tmp_path, monkeypatch):
    said, now = [], [0.0]
    monkeypatch.setattr(logging, "info", lambda text, *args: said.append(text % args))
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    logbook = open_logbook(tmp_path, first_step=2)
    now[0] = 60.0  # compilation
    logbook.waited(1.0, {"read": 0.5})
    logbook.advance(3)
    assert logbook.speed(3) == {}
    with logbook.pause():
        now[0] += 100.0
    now[0] += 8.0
    logbook.waited(2.0, {"read": 0.25})
    logbook.advance(5)
    speed = logbook.speed(5)
    assert speed == {"images_per_second": 2.0, "data_wait_share": 0.25, "read_seconds": 0.25}
    logbook.write(5, 1.0, {"loss": 1.5} | speed)  # four steps of eight images are left
    logbook.write(9, 1.0, speed)
    logbook.close()
    assert said[0].endswith("read_seconds 0.25  0:00:16 to go")
    assert said[1].endswith("read_seconds 0.25")


def test_a_full_disk_is_named(tmp_path):
    logbook = open_logbook(tmp_path)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"metrics.jsonl cannot be written: No space left on device"):
        logbook.write(1, 0.0, {"loss": 1.0})
    logbook.close()


def test_other_processes_write_nothing(tmp_path):
    logbook = open_logbook(tmp_path, active=False)
    logbook.write(1, 0.0, {"loss": 1.0})
    logbook.close()
    assert list(tmp_path.iterdir()) == []
