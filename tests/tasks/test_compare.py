import shutil

import pytest
from tiny import tiny_swav

from swav_jax import train
from swav_jax.checkpoints.seal import CheckpointError
from swav_jax.config import ConfigError
from swav_jax.tasks.compare import compare_task
from swav_jax.trained import settings_of
from swav_jax.workdir import update_results


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Workdirs with the same last name."""
    first, second = (tmp_path_factory.mktemp(name) / "run" for name in ("one", "two"))
    config = tiny_swav()
    config.data.test, config.train.steps, config.eval.quality_images = "test", 2, 0
    train.pretrain(config, first)
    shutil.copytree(first, second)
    update_results(second, "knn", {"top1": 99.0})
    return first, second


def test_one_page_and_one_table(runs, capsys):
    first, second = runs
    compare_task(settings_of(first), first, [str(second)])
    names = ["/".join(folder.parts[-2:]) for folder in runs]
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == names
    assert shown[1].split()[:2] == ["knn", "top1"] and shown[1].endswith(" 99")
    page = (first / "compare.html").read_text()
    assert all(name in page for name in names)


def test_a_damaged_checkpoint_keeps_no_run_out(runs, caplog, capsys):
    first, second = runs
    (second / "checkpoints" / "2" / "seal").write_text("damaged")
    compare_task(settings_of(first), first, [str(second)])
    assert f"{second / 'config.json'}" in caplog.text
    assert capsys.readouterr().out.splitlines()[1].endswith(" 99")
    (second / "config.json").unlink()
    with pytest.raises(CheckpointError, match="seal is not what was written"):
        settings_of(second)


def test_it_takes_two(runs):
    first, _ = runs
    for others in ([], [str(first)]):
        with pytest.raises(ConfigError, match="--others"):
            compare_task(settings_of(first), first, others)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        compare_task(settings_of(first), first, [str(first.parent)])
