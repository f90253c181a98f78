import json

import pytest
from images import smooth
from tiny import tiny_swav

from swav_jax import train
from swav_jax.config import ConfigError
from swav_jax.tasks.knn import knn_task
from swav_jax.trained import settings_of


def trained(tmp_path):
    config = tiny_swav()
    config.data.test = "test"
    config.train.steps = 2
    train.pretrain(config, tmp_path)
    return config, json.loads((tmp_path / "results.json").read_text())["knn"]


def test_task_repeats_the_evaluation_of_training(tmp_path, capsys):
    config, then = trained(tmp_path)
    assert {"top1", "random_init_top1", "k"} <= then.keys()
    path = tmp_path / "results.json"
    path.write_text("{}")
    knn_task(settings_of(tmp_path), tmp_path)
    now = json.loads(path.read_text())["knn"]
    assert then.items() <= now.items()  # the random network too, drawn from the seed again
    assert now["images"]["test"].startswith("297 images") and "temperature" in now["protocol"]
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["knn", "trained", "before", "training"]
    assert shown[1].split() == ["top1", f"{now['top1']:.4g}", f"{now['random_init_top1']:.4g}"]
    config.model.arch = "resnet18_tiny"
    with pytest.raises(ConfigError, match="another network"):
        knn_task(config, tmp_path)


def test_figures_of_other_images_are_kept(tmp_path):
    _, then = trained(tmp_path)
    config = settings_of(tmp_path)
    for number, name in enumerate(("train/0", "train/1", "test/0", "test/1")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        smooth(number, 20, 30).save(tmp_path / "photos" / name / "a.png")
    config.eval.data_dir = str(tmp_path / "photos")
    knn_task(config, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["knn"]["test_images"] == 2
    (earlier,) = results["earlier"]
    assert earlier == {"task": "knn"} | then
