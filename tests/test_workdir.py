import json
import math
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bucket
import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax import workdir as workdir_lib
from swav_jax.checkpoints.read import load_variables
from swav_jax.checkpoints.store import Checkpoints
from swav_jax.config import ConfigError, defaults, in_steps, to_dict
from swav_jax.methods import METHODS
from swav_jax.runtime import lease
from swav_jax.runtime.storage import located, write_whole
from swav_jax.workdir import (
    CHECKPOINTS,
    append_metrics,
    claim,
    locked,
    read_metrics,
    read_results,
    replace_results,
    scores_before_training,
    update_results,
)


def test_a_file_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_whole(path, "old")

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
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


def test_of_tasks_that_end_at_once_in_a_bucket_none_loses_its_figures(monkeypatch):
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.02)

    def slowly(path, contents):
        time.sleep(0.1)
        write_whole(path, contents)

    monkeypatch.setattr(workdir_lib, "write_whole", slowly)
    tasks = ["knn", "linear", "svm"]
    with bucket.served(monkeypatch):
        run = located("gs://bucket/run")
        with ThreadPoolExecutor(len(tasks)) as pool:
            list(pool.map(lambda task: update_results(run, task, {"top1": 1.0}), tasks))
        assert read_results(run) == {task: {"top1": 1.0} for task in tasks}
        assert [path.name for path in run.iterdir()] == ["results.json"]


def write_config(workdir, settings):
    """A workdir in which something was trained."""
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(settings))
    (workdir / "checkpoints" / "10").mkdir(parents=True, exist_ok=True)


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
    config.method.freeze_prototypes_epochs = 1.001  # 93 steps too
    claim(in_steps(config, 93), tmp_path)
    config.method.freeze_prototypes_epochs = 1.0
    with pytest.raises(ConfigError, match="freeze_prototypes_steps: 93 there, 94 here"):
        claim(in_steps(config, 94), tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_from_before_a_setting_existed_is_resumed_and_means_the_default(tmp_path, method):
    config = defaults(method)
    for section, settings in to_dict(config).items():
        old = to_dict(config)
        del old[section]
        if section != "method":  # without it a run is SwAV's
            write_config(tmp_path, old)
            claim(config, tmp_path)
        for key in settings if isinstance(settings, dict) else ():
            old = to_dict(config)
            del old[section][key]
            if key != "name" or section != "method":
                write_config(tmp_path, old)
                claim(config, tmp_path)
    old = to_dict(config)
    del old["model"]["head_norm"]
    write_config(tmp_path, old)
    config.model.head_norm = False
    with pytest.raises(ConfigError, match=r"\(model\.head_norm: True there, False here\)"):
        claim(config, tmp_path)


def test_settings_of_a_newer_version_are_named(tmp_path):
    newer = to_dict(defaults())
    newer["eval"]["train"] = "labelled"  # of what may change
    write_config(tmp_path, newer)
    claim(defaults(), tmp_path)
    newer["model"]["windows"], newer["teacher"] = 2, {"rate": 0.9}
    write_config(tmp_path, newer)
    with pytest.raises(
        ConfigError, match=r"newer version .* no settings model\.windows, teacher\.rate"
    ):
        claim(defaults(), tmp_path)


def test_another_method_is_one_difference(tmp_path):
    write_config(tmp_path, to_dict(defaults("moco")))
    with pytest.raises(ConfigError, match=r"\(method\.name: 'moco' there, 'swav' here\)"):
        claim(defaults("swav"), tmp_path)


def test_the_refusal_says_how_to_train_further(tmp_path):
    config = defaults()
    write_config(tmp_path, to_dict(config))
    config.train.epochs = 200
    with pytest.raises(
        ConfigError, match=f"another --workdir, with --config.init_from={tmp_path} "
    ):
        claim(config, tmp_path)
    config.model.arch = "resnet18"  # of which that run has no backbone
    with pytest.raises(ConfigError, match=r"another --workdir\.$"):
        claim(config, tmp_path)


def test_a_workdir_where_nothing_was_trained_is_taken_over_with_its_results(tmp_path):
    config = defaults()
    claim(config, tmp_path)
    update_results(tmp_path, "knn", {"random_init_top1": 10.0})
    update_results(tmp_path, "linear", {"top1": 30.0})
    mine = {"note": "mine", "earlier": [{"task": "knn", "random_init_top1": 9.0}]}
    (tmp_path / "results.json").write_text(json.dumps(read_results(tmp_path) | mine))
    claim(config, tmp_path)
    assert read_results(tmp_path)["knn"] == {"random_init_top1": 10.0}
    config.optim.base_lr = 1.0
    claim(config, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["optim"]["base_lr"] == 1.0
    left = {"knn": {}, "linear": {"top1": 30.0}, "note": "mine", "earlier": [{"task": "knn"}]}
    assert read_results(tmp_path) == left


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("config.json", '{"architectures": ["ResNet"]}', "does not belong to a run"),
        ("config.json", "[1]", "does not belong to a run"),
        ("config.json", '{"data": ', "is damaged"),
        ("results.json", '{"data": ', "is damaged"),
        ("results.json", "[1]", "does not belong to a run"),
    ],
)
def test_a_file_that_is_not_ours_is_left_alone(tmp_path, name, text, complaint):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=f"{name} {complaint}.*choose another --workdir"):
        claim(defaults(), tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, text)]


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


def test_results_that_were_measured_otherwise_are_kept_as_earlier_ones(tmp_path):
    about = {"images": {"test": "9 images"}, "checkpoint": "step 3"}
    update_results(tmp_path, "linear", {"random_init_top1": 5.0} | about)
    sgd = {"top1": 30.0, "protocol": "SGD"} | about
    fast = {"fast_top1": 31.0, "fast_protocol": "regression"} | about
    replace_results(tmp_path, "linear", sgd)
    replace_results(tmp_path, "linear", fast)
    both = {"random_init_top1": 5.0} | sgd | fast
    assert read_results(tmp_path) == {"linear": both}
    for change in ({"checkpoint": "step 6"}, {"images": {}}, {"fast_protocol": "another"}):
        replace_results(tmp_path, "linear", fast | change)
        results = read_results(tmp_path)
        assert results["linear"] == fast | change
        assert results["earlier"][0] == {"task": "linear"} | both
    assert len(results["earlier"]) == 3


def test_scores_before_training_are_those_that_training_measured(tmp_path):
    own = {"images": {"test": "digits"}, "checkpoint": "step 3"}
    photos = {"images": {"test": "photos"}, "checkpoint": "step 3"}
    update_results(tmp_path, "quality", {"random_init_rankme": 4.0, "rankme": 3.0})
    update_results(tmp_path, "knn", {"random_init_top1": 10.0, "top1": 20.0} | own)
    first = {"quality_rankme": 4.0, "knn_top1": 10.0}
    assert scores_before_training(read_results(tmp_path)) == first
    replace_results(tmp_path, "knn", {"random_init_top1": 50.0, "top1": 60.0} | photos)
    assert scores_before_training(read_results(tmp_path)) == first
    replace_results(tmp_path, "knn", {"top1": 21.0} | own, any_step=True)  # training goes on
    assert scores_before_training(read_results(tmp_path)) == first
    assert scores_before_training({}) == {}


WRITES = """
import pathlib, sys
from swav_jax.workdir import update_results
workdir, task = pathlib.Path(sys.argv[1]), sys.argv[2]
(workdir / f"ready_{task}").touch()
while len(list(workdir.glob("ready_*"))) < 2:
    pass
for number in range(100):
    update_results(workdir, task, {str(number): number})
"""


def test_processes_that_write_at_once_lose_no_results(tmp_path):
    write = [sys.executable, "-c", WRITES, str(tmp_path)]
    both = [subprocess.Popen([*write, task]) for task in "ab"]
    assert [process.wait(60) for process in both] == [0, 0]
    whole = {str(number): number for number in range(100)}
    assert read_results(tmp_path) == {"a": whole, "b": whole}


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
    update_results(tmp_path, "heads", {"nmi": [0.5, math.nan]})
    text = (tmp_path / "results.json").read_text()
    assert json.loads(text, parse_constant=refuse) == {
        "knn": {"k": 20},
        "clusters": {"purity": {}},
        "heads": {"nmi": [0.5, None]},
    }

    append_metrics(tmp_path, {"step": 3, "loss": 1.5, "nmi": math.nan, "x": float(np.inf)})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse) == {"step": 3, "loss": 1.5}


def test_files_of_earlier_versions_are_read_with_the_steps_of_today(tmp_path):
    lines = [{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.0}, {"step": 2, "knn_top1": 50.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 2]


@pytest.mark.parametrize("name", ["run[1]", "a*b", "a?b", "a\\b"])
def test_a_name_that_orbax_would_take_for_a_pattern_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"takes . for a pattern"), locked(tmp_path / name):
        pass
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a b", " a ", "ü", "{x}", "a%b", "~a", "a\nb", "a'b"])
@pytest.mark.filterwarnings("error")
def test_any_other_name_is_a_workdirs(tmp_path, name):
    with locked(tmp_path / name), Checkpoints(tmp_path / name / CHECKPOINTS) as checkpoints:
        checkpoints.save(1, {"a": jnp.arange(3)}, {})
    found, _ = load_variables(tmp_path / name, ("a",))
    assert found["a"].tolist() == [0, 1, 2]


def test_labels_may_change_unless_the_run_learns_from_them(tmp_path):
    for method in ("swav", "supervised"):
        workdir, config = tmp_path / method, defaults(method)
        claim(config, workdir)
        append_metrics(workdir, {"step": 1, "loss": 1.0})
        config.data.label_key = "other"
        if method == "swav":
            claim(config, workdir)
            continue
        with pytest.raises(ConfigError, match=r"data\.label_key: '' there, 'other' here"):
            claim(config, workdir)
