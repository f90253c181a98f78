import itertools
import os
import signal
import time

import bucket
import jax
import numpy as np
import pytest
from absl import logging
from images import save_damaged
from methods.short_runs import assert_resumes_exactly
from processes import assert_same_state, metrics, saved
from tiny import start, tiny_config, tiny_swav

from swav_jax import sharding, train
from swav_jax.checkpoints.store import Checkpoints
from swav_jax.config import ConfigError
from swav_jax.data.passes import one_pass
from swav_jax.data.sources.digits import open_digits
from swav_jax.data.sources.source import DataError
from swav_jax.monitor.doctor import Diverged, Doctor
from swav_jax.monitor.watch import Watch
from swav_jax.run import build
from swav_jax.runtime.interruption import INTERRUPTED
from swav_jax.runtime.storage import entries, located
from swav_jax.step import state_shapes
from swav_jax.workdir import read_results, saved_steps


def test_stopped_and_damaged_equals_uninterrupted_to_the_bit(tmp_path, monkeypatch):
    config = tiny_swav()
    config.train.steps = 6
    assert_resumes_exactly(config, tmp_path, monkeypatch, after=2)
    assert [line["step"] for line in metrics(tmp_path / "parts")] == list(range(1, 7))

    newest = tmp_path / "parts" / "checkpoints" / "6"
    largest = max((f for f in newest.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 3] ^= 16
    largest.write_bytes(content)
    train.pretrain(config, tmp_path / "parts")  # from the checkpoint of step 4
    assert (tmp_path / "parts" / "checkpoints" / "damaged" / "6").is_dir()
    assert_same_state(saved(tmp_path / "whole"), saved(tmp_path / "parts"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")


@pytest.mark.parametrize("kind, lag", [("gs", 0.0), ("s3", 0.5)])
def test_a_run_in_a_bucket_ends_as_one_on_a_disk(tmp_path, monkeypatch, kind, lag):
    config = tiny_swav()
    config.train.steps, config.checkpoint.every_steps = 6, 2
    monkeypatch.setattr("swav_jax.monitor.events.POINTS", 2)
    train.pretrain(config, tmp_path)
    read = Watch.read

    def killed_in_step_four(watch, state):
        read(watch, state)
        if int(state.step) == 4:
            raise KeyboardInterrupt

    with bucket.served(monkeypatch, lag):
        workdir = located(f"{kind}://bucket/runs/1")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Watch, "read", killed_in_step_four)
            train.pretrain(config, workdir)
        bucket.OBJECTS.put("bucket/runs/1/checkpoints/4/manifest.ocdbt", b"half of a save")
        train.pretrain(config, workdir)

        assert_same_state(saved(workdir), saved(tmp_path))
        assert metrics(workdir) == metrics(tmp_path)
        assert [line["step"] for line in metrics(workdir)] == list(range(1, 7))
        time.sleep(lag)
        there, here = ({e.name for e in entries(w)} - {".lock"} for w in (workdir, tmp_path))
        assert there == here
        assert sorted(saved_steps(workdir / "checkpoints")) == [4, 6]


@pytest.mark.parametrize("number, cache", [(signal.SIGINT, "device"), (signal.SIGTERM, "none")])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path, monkeypatch, number, cache):
    config = tiny_swav()
    config.data.cache = cache
    config.train.steps = 6
    train.pretrain(config, tmp_path / "whole")

    after = Watch.after

    def interrupted_in_step_two(watch, step, state, metrics):
        after(watch, step, state, metrics)
        if step == 2:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(Watch, "after", interrupted_in_step_two)
        train.pretrain(config, tmp_path / "parts")
    assert ended.value.code == INTERRUPTED
    assert int(saved(tmp_path / "parts")["['step']"]) == 3

    train.pretrain(config, tmp_path / "parts")
    assert_same_state(saved(tmp_path / "whole"), saved(tmp_path / "parts"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")


@pytest.mark.parametrize(
    ("method", "ends"),
    [
        ("swav", [(1, None), (3, 3), (3, 6)]),  # k-NN: at random, after three steps, at the end
        ("deepcluster", [(0, None), (3, 3)]),  # k-NN, and the second clustering
    ],
)
def test_a_signal_ends_evaluations_and_clustering(tmp_path, monkeypatch, method, ends):
    """After a batch; the state before it is saved, and the same command begins with it again.

    The ends are the number of a pass over images, of those that the command makes, and the step
    of the newest checkpoint after it.
    """
    config = tiny_swav() if method == "swav" else tiny_config(method)
    config.data.update(test="test", eval_resize=0, eval_crop=0)
    config.eval.update(batch_size=16, knn_every_epochs=int(method == "swav"))
    config.train.epochs = 2
    if method == "swav":
        config.method.freeze_prototypes_steps = 1
    digits = open_digits("train")
    few = digits.part(np.arange(48), digits.labels[:48], digits.class_names)

    def pretrain(workdir, signalled=None):
        passes, given = itertools.count(), []

        def counted(*args, **settings):
            number = next(passes)
            for batch in one_pass(*args, **settings):
                given.append(number)
                if number == signalled and given.count(number) == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

        monkeypatch.setattr("swav_jax.evals.labelled.one_pass", counted)
        monkeypatch.setattr("swav_jax.clustering.one_pass", counted)
        train.pretrain(config, workdir, few)

    pretrain(tmp_path / "whole")
    for signalled, step in ends:
        with pytest.raises(SystemExit) as ended:
            pretrain(tmp_path / "parts", signalled)
        assert ended.value.code == INTERRUPTED
        assert max(saved_steps(tmp_path / "parts" / "checkpoints"), default=None) == step
    pretrain(tmp_path / "parts")
    assert_same_state(saved(tmp_path / "whole"), saved(tmp_path / "parts"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")
    whole, parts = (read_results(tmp_path / run) for run in ("whole", "parts"))
    assert whole["knn"] == parts["knn"]


def test_a_full_disk_at_the_end_does_not_hide_the_error_that_came_first(tmp_path, monkeypatch):
    def fail(*_):
        raise DataError("first")

    def full(_):
        raise OSError("second")

    monkeypatch.setattr(Doctor, "close", full)
    with pytest.raises(OSError, match="second"), Watch(build(tiny_swav()), tmp_path, 0):
        pass
    monkeypatch.setattr(Watch, "before", fail)
    with pytest.raises(DataError, match="first"):
        train.pretrain(tiny_swav(), tmp_path / "run")


def test_a_run_that_resumes_draws_no_state(tmp_path, monkeypatch):
    config = tiny_swav()
    config.train.steps = 2
    train.pretrain(config, tmp_path)
    before = saved(tmp_path)
    monkeypatch.setattr(train, "draw_state", None)  # calling it would be an error
    train.pretrain(config, tmp_path)
    assert_same_state(saved(tmp_path), before)


def test_another_configuration_is_refused_before_anything_happens(tmp_path):
    config = tiny_swav()
    config.train.steps = 2
    train.pretrain(config, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    config.optim.base_lr = 2.0
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        train.pretrain(config, tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def losses(config, devices, steps):
    """Losses of a few steps on some of the devices, without files."""
    run = build(config, devices=jax.devices()[:devices])
    with jax.set_mesh(run.mesh):
        state, take_step = start(run)
        batches = train.batches_from(run, state, 0)
        found = []
        for _ in range(steps):
            state, values = take_step(state, sharding.put_batch(run.mesh, next(batches)))
            found.append(float(values["loss"]))
    return found


@pytest.mark.slow
def test_eight_devices_equal_one():
    config = tiny_swav()
    config.optim.base_lr = 0.05  # large steps amplify rounding from one to the next
    np.testing.assert_allclose(losses(config, 8, 10), losses(config, 1, 10), rtol=1e-5)


def test_eight_devices_that_share_prototypes_and_large_parameters_equal_one():
    config = tiny_swav()
    config.optim.base_lr = 0.05
    alone = losses(config, 1, 10)
    config.mesh.model = 2
    config.mesh.spread_parameters_above = 100
    layout = state_shapes(build(config)).params
    kernel = layout["head"]["projection_head_0"]["kernel"]
    for leaf in (kernel, layout["prototypes"]["prototypes0"]):
        assert "model" in leaf.sharding.spec
    np.testing.assert_allclose(losses(config, 8, 10), alone, rtol=1e-5)


@pytest.mark.slow
def test_eight_devices_equal_one_at_the_full_rate_but_for_rounding(x64):
    config = tiny_swav()
    config.model.dtype = "float64"
    np.testing.assert_allclose(losses(config, 8, 10), losses(config, 1, 10), rtol=1e-9)


def test_checkpoint_moves_to_another_number_of_devices(tmp_path):
    config = tiny_swav()
    leaves = {}
    for devices in (8, 2):
        run = build(config, devices=jax.devices()[:devices])
        with jax.set_mesh(run.mesh), Checkpoints(tmp_path) as checkpoints:
            state, _ = start(run)
            if devices == 8:
                checkpoints.save(1, state, {})
            else:
                state, _ = checkpoints.restore(state)
                assert len(state.extra["queue"].sharding.device_set) == 2
            leaves[devices] = jax.device_get(state)
    jax.tree.map(np.testing.assert_array_equal, leaves[8], leaves[2])


def test_checkpoints_are_due_by_the_clock(monkeypatch):
    config = tiny_swav()
    config.train.log_every_steps, config.checkpoint.every_minutes = 2, 5.0
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    run = build(config)
    due = {
        (done, saved): train.checkpoint_due(run, done, saved)
        for done in (7, 8)
        for saved in (701.0, 700.0)
    }
    assert [key for key, value in due.items() if value] == [(8, 700.0)]


def test_a_folder_with_damaged_images_trains_and_names_them(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: told.append(text % args))
    images = tmp_path / "images"
    images.mkdir()
    save_damaged(images)
    config = tiny_swav()
    config.data.name, config.data.data_dir = "folder", str(images)
    config.data.batch_size, config.method.queue_length = 8, 16
    config.data.max_bad_fraction = 0.2
    config.train.steps = 6
    train.pretrain(config, tmp_path / "run")
    assert all(np.isfinite(line["loss"]) for line in metrics(tmp_path / "run"))
    for name in (
        "bad_truncated.jpg",
        "bad_truncated.png",
        "bad_empty.jpg",
        "bad_text.jpg",
        "x.jpg",
    ):
        assert sum(name in warning for warning in told) == 1, name
    assert metrics(tmp_path / "run")[-1]["unreadable_images"] == 4


def test_a_run_that_diverges_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    config = tiny_swav()
    config.optim.name, config.optim.base_lr = "sgd", 1e9
    config.checkpoint.every_steps = 1
    with pytest.raises(Diverged, match="not finite"):
        train.pretrain(config, tmp_path)
    assert "The last good checkpoint" in (tmp_path / "doctor.md").read_text()
    assert all(np.isfinite(leaf).all() for leaf in saved(tmp_path, ("params",)).values())
