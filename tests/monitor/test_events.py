import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from swav_jax.monitor.events import Events


def drawn(folder, tag="loss"):
    """The points that TensorBoard shows, by its own reader."""
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def write(folder, first_step, steps, **metrics):
    events = Events(folder, first_step)
    for step in steps:
        events.write(step, metrics)
    events.close()


def test_every_metric_has_a_curve(tmp_path):
    write(tmp_path, 0, (1, 50), loss=0.5, lr=2.0)
    assert drawn(tmp_path, "loss") == [(1, 0.5), (50, 0.5)]
    assert drawn(tmp_path, "lr") == [(1, 2.0), (50, 2.0)]


@pytest.mark.parametrize("first_step", [0, 3, 6])
def test_steps_that_are_made_again_are_shown_once(tmp_path, first_step):
    write(tmp_path, 0, range(1, 6), loss=1.0)
    old = {path: path.read_bytes() for path in tmp_path.iterdir()}
    write(tmp_path, first_step, range(first_step, 8), loss=2.0)
    kept = range(1, min(first_step, 6))
    assert drawn(tmp_path) == [(s, 1.0) for s in kept] + [(s, 2.0) for s in range(first_step, 8)]
    assert all(path.read_bytes() == content for path, content in old.items())


def test_a_file_follows_those_of_the_same_moment(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", iter((10**18 + 5, 10**18 + 10**9 - 1)).__next__)
        write(tmp_path, 0, (1, 2), loss=1.0)
        write(tmp_path, 1, (1,), loss=2.0)
    assert drawn(tmp_path) == [(1, 2.0)]
