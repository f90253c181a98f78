import json

import pytest
from images import smooth
from tiny import tiny_swav

from swav_jax import train
from swav_jax.data.sources.source import DataError
from swav_jax.evals import svm
from swav_jax.tasks.svm import svm_task
from swav_jax.trained import settings_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained on digits, with a folder of images that show two, one or no class."""
    workdir = tmp_path_factory.mktemp("run")
    config = tiny_swav()
    config.train.steps = 2
    train.pretrain(config, workdir)
    lines = ["path,bright,wide"]
    for split, images in (("train", 16), ("test", 8)):
        (workdir / "photos" / split).mkdir(parents=True)
        for number in range(images):
            bright, wide = number % 2, number // 2 % 2
            image = smooth(number, 20, 40 if wide else 20).point(
                lambda v, b=bright: v // 2 + 127 * b
            )
            image.save(workdir / "photos" / split / f"{number}.png")
            lines.append(f"{split}/{number}.png,{bright},{wide}")
    (workdir / "labels.csv").write_text("\n".join(lines))
    (workdir / "photos" / "train" / "damaged.png").write_bytes(b"")
    return workdir


@pytest.fixture(autouse=True)
def few_fits(monkeypatch):
    monkeypatch.setattr(svm, "COSTS", svm.COSTS[-2:])
    monkeypatch.setattr(svm, "LOW_SHOT", (1, 2))


def settings(run, **evaluation):
    config = settings_of(run)
    config.data.max_bad_fraction = 0.5
    config.eval.update(**evaluation)
    return config


def test_classes_of_a_file(run, capsys):
    photos = {"data_dir": str(run / "photos"), "test": "test"}
    svm_task(settings(run, labels_csv=str(run / "labels.csv"), **photos), run)
    found = json.loads((run / "results.json").read_text())["svm"]
    assert 50 < found["map"] <= 100 and 50 < found["random_init_map_11point"] <= 100
    assert found["classes"] == 2 and 0 < found["low_shot_1"] <= 100
    assert capsys.readouterr().out.split()[:2] == ["svm", "trained"]
    with pytest.raises(DataError, match=r"come from eval\.labels_csv"):
        svm_task(settings(run, **photos), run)


def test_one_class_each(run):
    svm_task(settings(run, test="test"), run)
    found = json.loads((run / "results.json").read_text())["svm"]
    assert 40 < found["low_shot_2"] < found["top1"] < 100
    assert found["random_init_top1"] > 40 and found["images"]["train"].startswith("1500 images")
