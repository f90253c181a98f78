import json

import pytest
from tiny import tiny_swav

from swav_jax import train
from swav_jax.config import ConfigError
from swav_jax.tasks.knn import knn_task


def test_task_repeats_the_evaluation_of_training(tmp_path):
    config = tiny_swav()
    config.data.test = "test"
    config.train.steps = 2
    train.pretrain(config, tmp_path)
    path = tmp_path / "results.json"
    trained = json.loads(path.read_text())["knn"]
    assert {"top1", "random_init_top1", "k"} <= trained.keys()
    path.write_text("{}")
    knn_task(config, tmp_path)
    again = json.loads(path.read_text())["knn"]
    assert again == {k: v for k, v in trained.items() if k != "random_init_top1"}
    config.model.arch = "resnet18_tiny"
    with pytest.raises(ConfigError, match="another network"):
        knn_task(config, tmp_path)
