import re
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_swav

import swav_jax
from swav_jax import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained")
    config = tiny_swav()
    config.train.steps = 2
    train.pretrain(config, workdir)
    return workdir


def test_a_trained_backbone_gives_features_and_maps(trained):
    model, variables = swav_jax.load_backbone(trained)
    images = np.zeros((2, 16, 16, 3), np.float32)
    assert model.apply(variables, images, train=False).shape == (2, 16)
    maps = model.apply(variables, images, train=False, method="stages")
    assert maps["c2"].shape == (2, 8, 8, 16)


def snippets(page="README.md"):
    """The Python of a page."""
    text = (Path(__file__).parents[2] / page).read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_readme_loads_a_run_and_its_backbone(trained, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(trained)
    monkeypatch.chdir(tmp_path)
    run, backbone, _ = snippets()
    names = {"images": np.zeros((2, 16, 16, 3), np.uint8)}
    exec(run, names)
    assert names["embeddings"].shape == (2, 16)
    assert (tmp_path / "clusters.csv").read_text().startswith("path,cluster,score,")
    names = {"images": np.ones((2, 16, 16, 3), np.float32)}
    exec(backbone, names)
    assert names["features"].shape == (2, 16)


def test_the_readme_puts_a_backbone_into_nnx(trained):
    model, variables = swav_jax.load_backbone(trained)
    images = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    names = {"model": model, "variables": variables, "images": images}
    exec(snippets()[2], names)
    expected = model.apply(variables, images, train=False)
    np.testing.assert_allclose(names["bridged"](images, train=False), expected, rtol=1e-6)


@pytest.mark.parametrize("number", [0, 1])
def test_the_fine_tunings_of_the_docs_learn(trained, tmp_path, monkeypatch, number):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(trained)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = {
        "images": rng.normal(size=(8, 16, 16, 3)).astype(np.float32),
        "labels": rng.integers(0, 10, 8).astype(np.int32),
    }
    code = snippets("docs/transfer.md")[number]
    exec(code, names)
    first, loop = names["loss"], code[code.rindex("for _ in") :]
    exec(loop.replace("range(5)", "range(40)"), names)
    assert names["loss"] < 0.9 * first
