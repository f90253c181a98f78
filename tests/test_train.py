import json

import jax
import numpy as np
import pytest
from tiny import tiny_swav

from swav_jax import setup, sharding, train
from swav_jax.checkpoint import Checkpoints, load_variables
from swav_jax.config import ConfigError


def metrics(workdir):
    """The lines of metrics.jsonl without what the clock decides."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    timing = ("images_per_second", "data_wait_share", "read_seconds", "crop_seconds")
    return [{k: v for k, v in line.items() if k not in timing} for line in lines]


def saved(workdir):
    """Every leaf of the newest checkpoint, by name."""
    tree, _ = load_variables(workdir, ("step", "params", "batch_stats", "opt_state", "extra"))
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def assert_same_state(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_stopped_and_resumed_equals_uninterrupted_to_the_bit(tmp_path, monkeypatch):
    config = tiny_swav()
    config.train.steps = 6
    train.pretrain(config, tmp_path / "whole")

    class Killed(Exception):
        pass

    config.checkpoint.every_steps = 2
    log = train._log

    def die_after_step_four(*arguments):
        log(*arguments)
        if arguments[-2] == 3:  # (..., step, metrics)
            raise Killed

    monkeypatch.setattr(train, "_log", die_after_step_four)
    with pytest.raises(Killed):
        train.pretrain(config, tmp_path / "parts")
    monkeypatch.setattr(train, "_log", log)
    train.pretrain(config, tmp_path / "parts")

    assert_same_state(saved(tmp_path / "whole"), saved(tmp_path / "parts"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")
    assert [line["step"] for line in metrics(tmp_path / "parts")] == list(range(6))


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
    run = setup.build(config)
    mesh = sharding.make_mesh(config.mesh.model, jax.devices()[:devices])
    with jax.set_mesh(mesh):
        state, step_function = train.start(run, mesh)
        batches = train.batches_from(run, state, 0)
        found = []
        for _ in range(steps):
            state, values = step_function(state, sharding.put_batch(mesh, next(batches)))
            found.append(float(values["loss"]))
    return found


@pytest.mark.parametrize("model", [1, 2])
def test_eight_devices_equal_one(model):
    config = tiny_swav()
    config.optim.base_lr = 0.05  # large steps amplify rounding from one to the next
    alone = losses(config, 1, 10)
    config.mesh.model = model
    np.testing.assert_allclose(losses(config, 8, 10), alone, rtol=1e-5)


def test_checkpoint_moves_to_another_number_of_devices(tmp_path):
    config = tiny_swav()
    run = setup.build(config)
    leaves = {}
    for devices in (8, 2):
        mesh = sharding.make_mesh(1, jax.devices()[:devices])
        with jax.set_mesh(mesh), Checkpoints(tmp_path) as checkpoints:
            state, _ = train.start(run, mesh)
            if devices == 8:
                checkpoints.save(1, state, {})
            else:
                state, _ = checkpoints.restore(state)
                assert len(state.extra["queue"].sharding.device_set) == 2
            leaves[devices] = jax.device_get(state)
    jax.tree.map(np.testing.assert_array_equal, leaves[8], leaves[2])
