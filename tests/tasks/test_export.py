import os
import signal

import pytest
from tiny import tiny_swav

from swav_jax import train
from swav_jax.config import ConfigError
from swav_jax.monitor.watch import Watch
from swav_jax.tasks.export import export_task, network_of
from swav_jax.tasks.linear import linear_task
from swav_jax.trained import open_trained, settings_of
from swav_jax.workdir import read_results


def test_an_unknown_format_is_refused_before_a_network_is_read(tmp_path):
    with pytest.raises(ConfigError, match="unknown --format=keras; known are torchvision"):
        export_task(tiny_swav(), tmp_path, "keras")


def rows(network):
    """The figures of `linear` in the text about a network."""
    cells = [line.strip("| ").split(" | ") for line in network.about.splitlines()]
    return {row[1]: float(row[2]) for row in cells if row[0] == "linear"}


def recorded(workdir):
    figures = read_results(workdir)["linear"].items()
    return {name: float(f"{n:.5g}") for name, n in figures if isinstance(n, int | float)}


def test_a_classifier_goes_out_when_it_is_trained_and_with_its_own_figures(
    tmp_path, photos, monkeypatch, caplog
):
    workdir = tmp_path / "run"
    config = tiny_swav()
    config.data.test, config.train.steps = "test", 2
    config.data.max_bad_fraction = 0.5
    train.pretrain(config, workdir)

    def linear(**settings):
        config = settings_of(workdir)
        config.eval.update(linear_protocol="sgd", linear_epochs=2, **settings)
        linear_task(config, workdir)

    def network(**settings):
        config = settings_of(workdir)
        config.eval.update(settings)
        return network_of(open_trained(config, workdir))

    after = Watch.after

    def interrupted_in_the_second_epoch(watch, step, state, values):
        after(watch, step, state, values)
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Watch, "after", interrupted_in_the_second_epoch)
        linear()
    other = {"data_dir": str(photos), "train": ".", "test": "."}
    linear(**other)
    caplog.set_level("INFO")
    assert not network().classes
    assert "linear is left out: it is of another checkpoint, or not trained to" in caplog.text
    flags = [f"--config.eval.{key}={value}" for key, value in other.items()]
    assert f"--config.eval.data_name=folder {' '.join(flags)} export it" in caplog.text
    theirs = network(**other)
    assert theirs.classes == 2 and rows(theirs) == recorded(workdir)

    linear()
    ours = network()
    assert ours.classes == 10 and rows(ours) == recorded(workdir)
    assert rows(network(**other)) == rows(theirs) != rows(ours)


def test_one_mean_for_all_channels_is_written_for_each(workdir):
    config = settings_of(workdir)
    config.augment.mean, config.augment.std = (0.5,), (0.1, 0.2, 0.3)
    preprocessing = network_of(open_trained(config, workdir)).preprocessing
    assert preprocessing["mean"] == [0.5, 0.5, 0.5]
    assert preprocessing["std"] == [0.1, 0.2, 0.3]
