import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest
from tiny import tiny_swav

from swav_jax.methods.contract import TrainState
from swav_jax.monitor.doctor import Diverged
from swav_jax.monitor.watch import Watch
from swav_jax.run import build
from swav_jax.train import batches_from

STATE = TrainState(step=jnp.int32(0), params={}, batch_stats={}, opt_state=(), extra={})


@pytest.fixture(scope="module")
def run():
    """Eight steps of 16 images, a line every three; the network is never made."""
    config = tiny_swav()
    config.train.steps, config.train.log_every_steps = 8, 3
    return build(config)


def metrics(loss=1.0):
    return {"loss": jnp.float32(loss), "lr": jnp.float32(0.5), "first_bad": jnp.int32(-1)}


def lines(workdir):
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def steps(workdir):
    return [line["step"] for line in lines(workdir)]


def test_metrics_are_read_one_step_late(run, tmp_path):
    with Watch(run, tmp_path, first_step=0) as watch:
        watch.after(0, STATE, metrics(3.0))
        assert lines(tmp_path) == []
        watch.after(1, STATE, metrics(2.0))
        assert lines(tmp_path) == [{"step": 1, "epoch": 0.0108, "loss": 3.0, "lr": 0.5}]


def test_the_first_line_the_last_and_those_between(run, tmp_path):
    with Watch(run, tmp_path, first_step=0) as watch:
        for step in range(8):
            watch.after(step, STATE, metrics())
        watch.read(STATE)
        watch.read(STATE)  # nothing is left to read
    assert steps(tmp_path) == [1, 3, 6, 8]
    assert "images_per_second" in lines(tmp_path)[-1]


def test_what_is_found_between_steps(run, tmp_path):
    with Watch(run, tmp_path, first_step=0) as watch:
        watch.after(0, STATE, metrics())
        with watch.pause(STATE):
            assert steps(tmp_path) == [1]  # the step before is read first
        watch.note(1, {"knn_top1": 50.0})
        watch.note(1, {})
    assert lines(tmp_path)[1:] == [{"step": 1, "epoch": 0.0108, "knn_top1": 50.0}]


def test_a_step_that_is_not_finite_is_known_after_the_next(run, tmp_path):
    with pytest.raises(Diverged, match="in step 2"), Watch(run, tmp_path, first_step=0) as watch:
        watch.after(0, STATE, metrics())
        watch.after(1, STATE, metrics(jnp.nan))
        assert steps(tmp_path) == [1]
        watch.after(2, STATE, metrics(jnp.nan))
    assert "in step 2" in (tmp_path / "doctor.md").read_text()


def test_damaged_images_are_counted_where_there_can_be_any(run, tmp_path):
    source = dataclasses.replace(run.source, may_fail=True, unreadable={3, 5})
    with Watch(dataclasses.replace(run, source=source), tmp_path, first_step=0) as watch:
        watch.after(0, STATE, metrics())
        watch.read(STATE)
    assert lines(tmp_path)[0]["unreadable_images"] == 2


@pytest.mark.parametrize("process", [0, 1])
def test_process_0_draws_the_first_batch(run, tmp_path, monkeypatch, process):
    monkeypatch.setattr(jax, "process_index", lambda: process)
    batches = batches_from(run, STATE, 0)
    with Watch(run, tmp_path, first_step=0) as watch:
        watch.before(0, batches, next(batches))
        drawn = tmp_path / "crops.png"
        assert drawn.exists() is (process == 0)
        drawn.unlink(missing_ok=True)
        watch.before(1, batches, next(batches))
        assert not drawn.exists()
