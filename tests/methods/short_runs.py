"""Short runs of whole methods, on a network that compiles in a second."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from processes import saved
from tiny import tiny_config

from swav_jax import setup, sharding, train
from swav_jax.models import Encoder, ProjectionHead
from swav_jax.models.batch_norm import BatchNorm
from swav_jax.watch import Watch


class TinyBackbone(nn.Module):
    """A linear layer on 4x4 blurred pixels, with batch norm."""

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, train):
        x, (batch, size) = x.astype(self.dtype), x.shape[:2]
        pixels = x.reshape(batch, 4, size // 4, 4, size // 4, 3).mean((2, 4))
        x = nn.Dense(16, name="linear", param_dtype=x.dtype)(pixels.reshape(batch, -1))
        return nn.relu(BatchNorm(dtype=x.dtype, param_dtype=x.dtype, name="bn1")(x, not train))


def encoder(dim=8, dtype="float32"):
    head = ProjectionHead(16, dim, dtype=jnp.dtype(dtype), param_dtype=jnp.dtype(dtype))
    return Encoder(TinyBackbone(dtype), head)


@pytest.fixture
def short_run(monkeypatch):
    """Makes configurations of the given method, with 11 steps an epoch and the tiny network."""
    monkeypatch.setattr(setup, "make_encoder", lambda config: encoder(dtype=config.model.dtype))

    def config(method):
        config = tiny_config(method)
        config.data.batch_size = 128
        config.optim.name = "sgd"
        config.optim.base_lr = 0.1
        config.optim.weight_decay = 1e-4
        return config

    return config


def losses(config, devices, steps):
    """Losses of a few steps, with clusterings where they are due, on some of the devices."""
    run = setup.build(config, devices=jax.devices()[:devices])
    found = []
    with jax.set_mesh(run.mesh):
        state, take_step = train.start(run)
        batches = None
        for step in range(steps):
            every = run.method.cluster_every_epochs * run.run.steps_per_epoch
            if every and step % every == 0:
                state, _ = train.cluster(run, state, step)
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
    return saved(tmp_path / "parts", branches), saved(tmp_path / "whole", branches)
