import csv
import json

import pytest
from images import smooth
from tiny import tiny_swav

from swav_jax import train
from swav_jax.data.sources.source import DataError
from swav_jax.tasks.retrieval import retrieval_task
from swav_jax.trained import settings_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained on digits, with a folder of other images in two classes."""
    workdir = tmp_path_factory.mktemp("run")
    config = tiny_swav()
    config.train.steps = 2
    train.pretrain(config, workdir)
    for number, name in enumerate(("train/a/0", "train/a/1", "train/b/2", "train/b/3", "test/a/4")):
        path = workdir / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth(number, 20, 30).save(path)
    smooth(2, 20, 30).save(workdir / "photos" / "test" / "copy.png")
    (workdir / "photos" / "train" / "b" / "damaged.png").write_bytes(b"")
    return workdir


def settings(run, **evaluation):
    config = settings_of(run)
    config.data.max_bad_fraction = 0.5
    config.eval.update(data_dir=str(run / "photos"), neighbours=3, **evaluation)
    return config


def test_nearest_images_are_written_with_or_without_labels(run, monkeypatch):
    (run / "neighbours.csv").write_text("of another network")
    monkeypatch.chdir(run)
    config = settings(run, test="test")
    config.eval.data_dir = "photos"
    retrieval_task(config, run)  # copy.png lies beside the class: no labels
    assert (run / "neighbours.csv.1").read_text() == "of another network"
    lines = list(csv.DictReader((run / "neighbours.csv").read_text().splitlines()))
    assert list(lines[0]) == ["path", "rank", "neighbour", "similarity"]
    assert [line["rank"] for line in lines] == ["1", "2", "3"] * 2
    copy = next(line for line in lines if line["path"] == str(run / "photos/test/copy.png"))
    assert copy["neighbour"] == str(run / "photos/train/b/2.png")
    assert float(copy["similarity"]) > 0.9999
    assert not any("damaged" in line["neighbour"] for line in lines)
    assert not (run / "results.json").exists()


def test_figures_come_with_those_of_the_network_before_training(run, capsys):
    (run / "photos" / "val" / "a").mkdir(parents=True)
    (run / "photos" / "val" / "b").mkdir()
    smooth(1, 20, 30).save(run / "photos" / "val" / "a" / "copy.png")
    smooth(3, 20, 30).save(run / "photos" / "val" / "b" / "copy.png")
    retrieval_task(settings(run, test="val", retrieval_k=(1, 5)), run)
    found = json.loads((run / "results.json").read_text())["retrieval"]
    assert found["precision_at_1"] == 100 and found["recall_at_1"] == 50
    assert found["precision_at_5"] == 40 and found["recall_at_5"] == 100  # four can be found
    assert 70 < found["map"] <= 100 and found["random_init_map"] > 0
    assert found["train_images"] == 4 and found["test_images"] == 2
    assert capsys.readouterr().out.split()[:2] == ["retrieval", "trained"]


def test_without_test_images_each_asks_for_all_others(run):
    config = settings(run, data_name="folder", retrieval_k=(1,))
    config.eval.data_dir = str(run / "photos" / "train")
    retrieval_task(config, run)
    found = json.loads((run / "results.json").read_text())["retrieval"]
    assert found["protocol"].startswith("leave-one-out") and found["test_images"] == 4
    lines = list(csv.DictReader((run / "neighbours.csv").read_text().splitlines()))
    assert len(lines) == 12 and all(line["path"] != line["neighbour"] for line in lines)

    config.eval.test = "tset"
    with pytest.raises(DataError, match="there is no folder 'tset'"):
        retrieval_task(config, run)
