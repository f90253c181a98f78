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


def snippets():
    """The README's Python."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_three_lines_of_the_readme(trained, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(trained)
    monkeypatch.chdir(tmp_path)
    names = {"images": np.ones((2, 16, 16, 3), np.float32)}
    exec(snippets()[0], names)
    assert names["features"].shape == (2, 16)


def test_the_readme_puts_a_backbone_into_nnx(trained):
    model, variables = swav_jax.load_backbone(trained)
    images = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    names = {"model": model, "variables": variables, "images": images}
    exec(snippets()[1], names)
    expected = model.apply(variables, images, train=False)
    np.testing.assert_allclose(names["bridged"](images, train=False), expected, rtol=1e-6)
