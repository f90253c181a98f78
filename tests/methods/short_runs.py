"""Short runs of whole methods, on a network that compiles in a second."""

import jax
import pytest
from processes import STATE, assert_same_state, metrics, saved
from tiny import start

from swav_jax import sharding, train
from swav_jax.checkpoints.store import Checkpoints
from swav_jax.clustering import cluster
from swav_jax.run import build


def losses(config, devices, steps):
    """Losses of a few steps, with clusterings where they are due, on some of the devices."""
    run = build(config, devices=jax.devices()[:devices])
    found = []
    with jax.set_mesh(run.mesh):
        state, take_step = start(run)
        batches = None
        for step in range(steps):
            every = run.method.cluster_every_epochs * run.sizes.steps_per_epoch
            if every and step % every == 0:
                state, _ = cluster(run, state, step)
                batches = None
            batches = batches or train.batches_from(run, state, step)
            state, values = take_step(state, sharding.put_batch(run.mesh, next(batches)))
            found.append(float(values["loss"]))
    return found


class DiskFull(Exception):
    """The run ends here."""


def assert_resumes_exactly(config, tmp_path, monkeypatch, *, after, branches=STATE):
    """Checks that a run that ends after a checkpoint and is started again equals one in one go.

    It ends when it would save for the second time, with lines of metrics that are younger than its
    checkpoint. Returns the leaves of its last state by name.
    """
    config.checkpoint.every_steps = after
    train.pretrain(config, tmp_path / "whole")
    save = Checkpoints.save

    def save_once(checkpoints, step, *what):
        if step > after:
            raise DiskFull
        save(checkpoints, step, *what)

    with monkeypatch.context() as patch, pytest.raises(DiskFull):
        patch.setattr(Checkpoints, "save", save_once)
        train.pretrain(config, tmp_path / "parts")
    assert len(metrics(tmp_path / "parts")) > after
    train.pretrain(config, tmp_path / "parts")
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    leaves = saved(tmp_path / "parts", branches)
    assert_same_state(leaves, saved(tmp_path / "whole", branches))
    return leaves
