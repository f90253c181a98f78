"""A run of an older version is resumed, and its checkpoint read, also without younger settings.

`old_run.tar.gz` is the workdir of six steps of the quickstart's SwAV, stopped after three of them,
as the version of November 2026 (4623908) left it.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from processes import launch, metrics, saved, succeed

import swav_jax
from swav_jax.checkpoints.seal import read_seal, write_seal
from swav_jax.config import ConfigError, defaults
from swav_jax.tasks.knn import knn_task
from swav_jax.weights.origin import open_origin

# As if none of these had existed; what that run says of them is the default.
YOUNGER = (
    "profile",
    "mesh",
    "model.head_norm",
    "model.bn_groups",
    "method.hard_codes",
    "eval.knn_k",
)


@pytest.fixture
def old_run(tmp_path):
    with tarfile.open(Path(__file__).parent / "old_run.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "old_run"


def without(settings, paths):
    for path in paths:
        *sections, key = path.split(".")
        del (settings[sections[0]] if sections else settings)[key]


def flags(settings, prefix="--config"):
    """Settings as a user types them."""
    if isinstance(settings, dict):
        return [flag for key in settings for flag in flags(settings[key], f"{prefix}.{key}")]
    return [f"{prefix}={settings}"]


@pytest.mark.parametrize("absent", [(), YOUNGER], ids=["as it was", "younger settings absent"])
def test_it_goes_on_to_its_end(old_run, absent):
    settings = json.loads((old_run / "config.json").read_text())
    typed = flags(settings)
    without(settings, absent)
    (old_run / "config.json").write_text(json.dumps(settings))
    before = [line | {"step": line["step"] + 1} for line in metrics(old_run)[:3]]  # steps done
    succeed(old_run, launch(old_run, "--config=configs/quickstart.py", *typed))
    assert "Restored the checkpoint of step 3" in Path(f"{old_run}.log").read_text()
    assert int(saved(old_run)["['step']"]) == 6
    assert metrics(old_run)[:3] == before
    losses = [line["loss"] for line in metrics(old_run) if "loss" in line]
    assert len(losses) == 6 and max(losses[3:]) < losses[0]


def remake(old_run, absent):
    """The checkpoint as if some settings had not existed when it was saved."""
    folder = old_run / "checkpoints" / "3"
    seal = read_seal(folder)
    without(seal["metadata"]["config"], absent)
    (folder / "seal").unlink()
    write_seal(folder, seal)


def test_its_backbone_is_read(old_run):
    remake(old_run, YOUNGER)
    model, variables = swav_jax.load_backbone(old_run)
    features = model.apply(variables, np.ones((2, 16, 16, 3), np.float32), train=False)
    assert features.shape == (2, 64) and np.isfinite(features).all()


def test_its_network_is_compared_as_the_defaults_are_where_it_says_nothing(old_run):
    remake(old_run, ["model.stem"])
    config = defaults()
    config.model.arch, config.model.stem = "resnet10_tiny", "imagenet"
    config.init_from = str(old_run)
    open_origin(config)
    config.model.stem = "strided"
    with pytest.raises(ConfigError, match=r"model\.stem=imagenet"):
        open_origin(config)
    with pytest.raises(ConfigError, match=r"model\.stem: 'imagenet' there, 'strided' here"):
        knn_task(config, old_run)
