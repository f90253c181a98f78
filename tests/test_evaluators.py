import json

import jax
import numpy as np
import pytest
from images import smooth
from tiny import tiny_swav

from swav_jax import evaluators, train
from swav_jax.checkpoints.read import find, load_variables
from swav_jax.data.sources.pixels import evenly
from swav_jax.evals.features import pooled
from swav_jax.evals.quality import rankme
from swav_jax.methods.swav import SwAV
from swav_jax.run import build
from swav_jax.workdir import read_metrics, read_results


def tiny_run(every_epochs=0):
    config = tiny_swav()
    config.data.test = "test"
    config.train.epochs = 3
    config.eval.knn_every_epochs = every_epochs
    return build(config)


def test_evaluators_are_due_at_their_intervals_and_at_the_end():
    run = tiny_run(every_epochs=2)
    epoch, end = run.sizes.steps_per_epoch, run.sizes.total_steps
    moments = (0, 1, epoch, 2 * epoch, end - 1, end)
    assert [done for done in moments if evaluators.due(run, done)] == [2 * epoch, end]
    never = tiny_run()
    assert not any(evaluators.due(never, done) for done in range(end))


def test_another_evaluator_is_one_entry(tmp_path, monkeypatch):
    def count(run, variables, between):
        return {"leaves": float(len(variables["params"])), "rest": 1}

    monkeypatch.setattr(evaluators, "EVALUATORS", {"count": count, "none": lambda *_: None})
    monkeypatch.setattr(SwAV, "evaluators", ("count", "none"))
    config = tiny_swav()
    config.train.steps = 2
    with config.eval.unlocked():
        config.eval.count_every_epochs = config.eval.none_every_epochs = 0
    monkeypatch.setattr("swav_jax.limits.check", lambda *_: None)  # of keys that it does not know
    train.pretrain(config, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    numbers = {"random_init_leaves": 3.0, "leaves": 3.0, "rest": 1}
    assert results["count"] == numbers | {"checkpoint": "step 2"}
    assert "none" not in results
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["count_leaves"] == 3.0 and "count_rest" not in last


def test_quality_needs_no_labels_and_reads_some_images(tmp_path):
    config = tiny_swav()
    config.train.steps = 2
    config.eval.quality_images = 40
    run = build(config)
    train.pretrain(config, tmp_path)
    found = read_results(tmp_path)["quality"]
    assert 1 < found["rankme"] < 16 and found["uniformity"] < 0
    assert 1 < found["random_init_rankme"] < 16
    last = read_metrics(tmp_path)[-1]
    assert last["quality_rankme"] == found["rankme"]

    with jax.set_mesh(run.mesh):
        rows = pooled(run.method.encoder, load_variables(find(tmp_path))[0], run.train_images)
    spread = np.linspace(0, 1499, 40).astype(int)
    assert found["rankme"] == pytest.approx(rankme(rows[spread]), rel=1e-4)


def test_quality_of_images_of_which_one_that_nobody_looked_at_has_another_size(tmp_path):
    unseen = next(number for number in range(40) if number not in evenly(40))
    for number in range(40):
        smooth(number, 20, 30 + (number == unseen)).save(tmp_path / f"{number:02}.png")
    config = tiny_swav()
    config.data.update(name="folder", data_dir=str(tmp_path), eval_resize=0, eval_crop=0)
    config.method.freeze_prototypes_steps, config.train.steps = 1, 2
    config.eval.quality_images = 40
    train.pretrain(config, tmp_path / "run")
    assert 1 < read_results(tmp_path / "run")["quality"]["rankme"] < 16
