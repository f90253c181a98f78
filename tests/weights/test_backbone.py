import re
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import start, tiny_config, tiny_swav

import swav_jax
from swav_jax import train
from swav_jax.config import ConfigError
from swav_jax.run import build
from swav_jax.weights.backbone import start_from


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


@pytest.mark.parametrize("method", ["swav", "moco"])
def test_training_starts_from_it_in_every_copy(trained, method):
    config = tiny_swav() if method == "swav" else tiny_config(method)
    config.method.queue_length = 32
    run = build(config, devices=jax.devices()[:2])
    with jax.set_mesh(run.mesh):
        fresh, _ = start(run)
        state = start_from(fresh, trained)
    _, variables = swav_jax.load_backbone(trained)
    copies = [state.params["backbone"]]
    if method == "moco":
        copies.append(state.extra["key_encoder"]["backbone"])
    for copy in copies:
        jax.tree.map(np.testing.assert_array_equal, copy, variables["params"])
    found = state.batch_stats["backbone"]
    jax.tree.map(np.testing.assert_array_equal, found, variables["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, state.params["head"], fresh.params["head"])
    for leaf, place in zip(jax.tree.leaves(state), jax.tree.leaves(fresh), strict=True):
        assert leaf.sharding == place.sharding


def test_another_network_is_refused(trained):
    config = tiny_swav()
    config.model.arch = "resnet18_tiny"
    config.init_from = str(trained)
    with pytest.raises(ConfigError, match=r"init_from.*model\.arch=one_conv.*resnet18_tiny"):
        train.pretrain(config, trained.parent / "other")
    assert not (trained.parent / "other" / "results.json").exists()


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
