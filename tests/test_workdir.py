import json
import math
from pathlib import Path

import numpy as np
import pytest

from swav_jax.config import ConfigError, defaults, in_steps
from swav_jax.workdir import (
    append_metrics,
    claim,
    locked,
    read_metrics,
    read_results,
    update_results,
    write_whole,
)


def test_a_file_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_whole(path, "old")

    def full(self, text):
        with self.open("w") as file:
            file.write(text[:1])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            write_whole(path, "new")
    assert path.read_text() == "old"
    write_whole(path, "new")
    assert path.read_text() == "new"


def test_one_process_at_a_time(tmp_path):
    with (
        locked(tmp_path / "run"),
        pytest.raises(BlockingIOError, match="another process trains in"),
        locked(tmp_path / "run"),
    ):
        pass
    with locked(tmp_path / "run"):
        pass


def test_a_bucket_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotADirectoryError, match="mount the bucket"), locked(Path("gs://b/run")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_workdir_belongs_to_one_configuration(tmp_path):
    config = defaults()
    claim(config, tmp_path / "run")
    claim(config, tmp_path / "run")  # the same run goes on
    saved = (tmp_path / "run" / "config.json").read_text()
    assert math.isclose(json.loads(saved)["optim"]["base_lr"], 4.8)
    (tmp_path / "run" / "metrics.jsonl").write_text("{}\n")
    config.checkpoint.keep_last, config.profile.steps = 5, "1:3"  # decide nothing of what is learnt
    claim(config, tmp_path / "run")
    config.optim.base_lr = 1.0
    with pytest.raises(ConfigError, match=r"optim\.base_lr: 4\.8 there, 1\.0 here"):
        claim(config, tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_text() == saved
    (tmp_path / "other" / "checkpoints" / "10").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"no config\.json"):
        claim(config, tmp_path / "other")


def test_a_run_goes_on_whichever_unit_its_durations_are_in(tmp_path):
    config = defaults()
    config.method.freeze_prototypes_steps = 93
    claim(in_steps(config, 93), tmp_path)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    config.method.freeze_prototypes_steps = config.train.log_every_steps = None
    config.train.log_every_epochs = 0.5
    claim(in_steps(config, 93), tmp_path)
    with pytest.raises(ConfigError, match="freeze_prototypes_steps: 93 there, 94 here"):
        claim(in_steps(config, 94), tmp_path)


def test_a_workdir_where_nothing_was_trained_is_taken_over(tmp_path):
    config = defaults()
    claim(config, tmp_path)
    (tmp_path / "results.json").write_text("{}")
    config.optim.base_lr = 1.0
    claim(config, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["optim"]["base_lr"] == 1.0
    assert not (tmp_path / "results.json").exists()


def test_results_of_tasks_are_merged(tmp_path):
    update_results(tmp_path, "knn", {"random_init_top1": 10.0})
    assert update_results(tmp_path, "knn", {"top1": 20.0}) == {
        "random_init_top1": 10.0,
        "top1": 20.0,
    }
    update_results(tmp_path, "linear", {"top1": 30.0})
    assert read_results(tmp_path) == {
        "knn": {"random_init_top1": 10.0, "top1": 20.0},
        "linear": {"top1": 30.0},
    }


def test_a_line_that_a_kill_cut_short_is_not_read(tmp_path):
    assert read_metrics(tmp_path) == []
    (tmp_path / "metrics.jsonl").write_text('{"step": 4, "loss": 1.5}\n{"step": 5, "lo')
    assert read_metrics(tmp_path) == [{"step": 4, "loss": 1.5}]


def refuse(token):
    raise ValueError(f"{token} is no JSON")


def test_numbers_that_are_not_finite_are_left_out(tmp_path):
    """JavaScript's JSON.parse refuses the tokens NaN and Infinity, and with them the file."""
    (tmp_path / "results.json").write_text('{"knn": {"top1": NaN, "k": 20}}')  # by a version before
    update_results(tmp_path, "clusters", {"nmi": 0.5, "purity": {"train": 0.25}})
    update_results(tmp_path, "clusters", {"nmi": math.nan, "purity": {"train": -math.inf}})
    text = (tmp_path / "results.json").read_text()
    assert json.loads(text, parse_constant=refuse) == {"knn": {"k": 20}, "clusters": {"purity": {}}}

    append_metrics(tmp_path, {"step": 3, "loss": 1.5, "nmi": math.nan, "x": float(np.inf)})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse) == {"step": 3, "loss": 1.5}


def test_files_of_earlier_versions_are_read_with_the_steps_of_today(tmp_path):
    lines = [{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.0}, {"step": 2, "knn_top1": 50.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 2]
