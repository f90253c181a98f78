import json

import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

from swav_jax.monitor.logbook import Logbook


def record(workdir, first_step, steps, loss):
    logbook = Logbook(workdir, first_step=first_step, total_steps=9, batch_size=8, active=True)
    for step in steps:
        logbook.write(step, step / 3, {"loss": loss})
    logbook.close()


def drawn(workdir):
    """The (step, loss) pairs of all TensorBoard files."""
    found = []
    for path in (workdir / "tensorboard").iterdir():
        for raw in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = event_pb2.Event.FromString(raw)
            found += [
                (event.step, float(tf.make_ndarray(value.tensor)))
                for value in event.summary.value
                if value.tag == "loss"
            ]
    return sorted(found)


def written(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


@pytest.mark.parametrize("cut_off", [False, True])
def test_steps_that_are_made_again_are_recorded_once(tmp_path, cut_off):
    record(tmp_path, 0, range(5), loss=1.0)
    if cut_off:  # as by a kill
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 5, "lo')
    record(tmp_path, 3, range(3, 9), loss=2.0)
    expected = [(step, 1.0 if step < 3 else 2.0) for step in range(9)]
    assert written(tmp_path) == drawn(tmp_path) == expected


def test_a_run_that_goes_on_where_it_stopped_keeps_its_events(tmp_path):
    record(tmp_path, 0, range(3), loss=1.0)
    before = {path: path.read_bytes() for path in (tmp_path / "tensorboard").iterdir()}
    record(tmp_path, 3, range(3, 6), loss=2.0)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert written(tmp_path) == drawn(tmp_path)


def test_the_past_of_a_run_without_checkpoints_is_set_aside(tmp_path):
    for loss in (1.0, 2.0, 3.0):
        record(tmp_path, 0, range(3), loss)
    assert written(tmp_path) == drawn(tmp_path) == [(step, 3.0) for step in range(3)]
    for n, loss in enumerate((1.0, 2.0)):
        lines = (tmp_path / f"metrics.{n}.jsonl").read_text().splitlines()
        assert [json.loads(line)["loss"] for line in lines] == [loss] * 3
    (tmp_path / "metrics.0.jsonl").unlink()
    record(tmp_path, 0, range(3), loss=4.0)
    assert '"loss": 2.0' in (tmp_path / "metrics.1.jsonl").read_text()


def test_a_full_disk_is_named(tmp_path):
    logbook = Logbook(tmp_path, first_step=0, total_steps=9, batch_size=8, active=True)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"metrics.jsonl cannot be written: No space left on device"):
        logbook.write(0, 0.0, {"loss": 1.0})
    logbook.close()


def test_other_hosts_write_nothing(tmp_path):
    logbook = Logbook(tmp_path, first_step=0, total_steps=9, batch_size=8, active=False)
    logbook.write(0, 0.0, {"loss": 1.0})
    logbook.close()
    assert list(tmp_path.iterdir()) == []
