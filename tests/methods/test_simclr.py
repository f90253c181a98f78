import numpy as np
import pytest
from methods.short_runs import assert_resumes_exactly, losses
from processes import STATE
from tiny import encoder

from swav_jax.methods.contract import Sizes
from swav_jax.methods.simclr import SimCLR

RUN = Sizes(size=1500, batch_size=128, views=2, steps_per_epoch=11, total_steps=110)


def test_impossible_settings_are_refused():
    method = SimCLR(encoder())
    assert method.check(RUN) == []
    with pytest.raises(ValueError, match=r"data\.crops"):
        method.check(RUN._replace(views=1))
    with pytest.raises(ValueError, match=r"data\.batch_size"):
        method.check(RUN._replace(batch_size=1))
    (warning,) = method.check(RUN._replace(parts=2))
    assert "train.accumulate above 1" in warning


def test_eight_devices_equal_one_and_the_loss_falls(short_run):
    config = short_run("simclr")
    alone = losses(config, 1, 12)
    np.testing.assert_allclose(losses(config, 8, 12), alone, rtol=1e-4)
    assert np.mean(alone[-3:]) < np.mean(alone[:3])


def test_resumes_exactly(short_run, tmp_path, monkeypatch):
    config = short_run("simclr")
    config.train.steps = 6
    assert_resumes_exactly(
        config, tmp_path, monkeypatch, after=4, branches=STATE[:4]
    )  # nothing extra
