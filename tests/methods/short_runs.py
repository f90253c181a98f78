"""Short runs of whole methods, on a network that compiles in a second."""

import jax
import pytest
from processes import metrics, saved
from tiny import start

from swav_jax import sharding, train
from swav_jax.clustering import cluster
from swav_jax.monitor.watch import Watch
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


class Killed(Exception):
    """The process ends here."""


def resumed_and_whole(config, tmp_path, monkeypatch, *, kill_after, extra=True):
    """Last states of a run that was killed and resumed, and of one that was not."""
    branches = ["step", "params", "batch_stats", "opt_state", *(["extra"] if extra else [])]
    read = Watch.read

    def die(watch, state):
        step = watch._unread and watch._unread[0]
        read(watch, state)
        if step == kill_after:
            raise Killed

    config.checkpoint.every_steps = kill_after
    train.pretrain(config, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Watch, "read", die)
        train.pretrain(config, tmp_path / "parts")
    train.pretrain(config, tmp_path / "parts")
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    return saved(tmp_path / "parts", branches), saved(tmp_path / "whole", branches)
