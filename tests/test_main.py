import pytest
from processes import launch, succeed
from tiny import tiny_swav

from swav_jax import train
from swav_jax.workdir import read_results

CHOSEN = ("--config=configs/quickstart.py", "--config.method.name=pcl")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--config.data.bach_size=3",), "error: --config has no setting bach_size"),
        (("--config=configs/nowhere.py",), "error: --config cannot be read"),
        ((*CHOSEN, "--config.method.warmup_epochs=-7"), "error: method.warmup_epochs is -7"),
        (("--config.method.momentum=1.5", *CHOSEN), "error: method.momentum is 1.5"),
        ((*CHOSEN, "--config.method.epsilon=0.1"), "error: --config has no setting epsilon"),
        ((*CHOSEN, "--config.method.momentum=high"), "error: flag --config.method.momentum=high"),
        (("--config.method.name=nothing",), "error: unknown method.name 'nothing'; known are swav"),
        (("--config.method.name",), "write --config.method.name=VALUE"),
        (("--config=tests/test_main.py",), "has no attribute 'get_config'"),
        (("--workdr=runs/x",), "error: Unknown command line flag 'workdr'. Did you mean: workdir"),
        (("--workdir=",), "error: --workdir is needed"),
        (("--topology=v5e:8x8",), "error: --topology is of --task=plan, not of --task=pretrain"),
        (
            ("--task=embed", "--format=csv"),
            "not of --task=embed; tables have that of --config.eval",
        ),
    ],
)
def test_wrong_flags_are_one_line(tmp_path, flags, complaint):
    workdir = tmp_path / "run"
    file = () if any(flag.startswith("--config=") for flag in flags) else CHOSEN[:1]
    succeed(workdir, launch(workdir, *file, *flags), code=1)
    said = (tmp_path / "run.log").read_text()
    assert complaint in said and "Traceback" not in said
    assert not (workdir / "config.json").exists()


def test_a_workdir_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "run").write_text("")
    succeed(tmp_path / "run", launch(tmp_path / "run", "--config=configs/quickstart.py"), code=1)
    said = (tmp_path / "run.log").read_text()
    assert "run cannot be written to (Not a directory)" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--task=pretrain",), "error: --task=pretrain needs --config"),
        (("--task=knn",), "error: there is no checkpoint in"),
    ],
)
def test_without_config_there_must_be_a_run(tmp_path, flags, complaint):
    workdir = tmp_path / "run"
    succeed(workdir, launch(workdir, *flags), code=1)
    said = (tmp_path / "run.log").read_text()
    assert complaint in said and "Traceback" not in said


def test_a_task_needs_a_workdir_and_nothing_else(tmp_path):
    config = tiny_swav()
    config.data.test, config.train.steps = "test", 2
    train.pretrain(config, tmp_path / "run")
    flags = ("--task=knn", "--config.eval.knn_k=(3,)")
    succeed(tmp_path / "run", launch(tmp_path / "run", *flags))
    assert read_results(tmp_path / "run")["knn"]["k"] == 3
