"""A method of one file and one line, the one of docs/methods.md, goes through the loop."""

import importlib.util
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from methods.short_runs import assert_resumes_exactly
from processes import STATE, metrics
from tiny import tiny_config

from swav_jax.config import ConfigError, defaults
from swav_jax.methods import METHODS
from swav_jax.methods.contract import Method
from swav_jax.run import build

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()


@pytest.fixture(autouse=True)
def own_method(tmp_path, monkeypatch):
    (text,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    file = tmp_path / "consensus.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location("consensus", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(METHODS, "consensus", module.Consensus)


@pytest.fixture
def config():
    config = tiny_config("consensus")
    config.optim.name, config.optim.base_lr = "sgd", 0.1
    config.train.steps = 60
    return config


def test_it_learns_and_resumes(config, tmp_path, monkeypatch):
    branches = STATE[:4]  # nothing extra
    assert_resumes_exactly(config, tmp_path, monkeypatch, after=40, branches=branches)
    losses = [line["loss"] for line in metrics(tmp_path / "whole")]
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.1


def test_its_settings_are_the_section_method_and_are_checked(config):
    assert defaults("consensus").method.to_dict() == {
        "name": "consensus",
        "temperature": 0.1,
        "epsilon": 0.05,
    }
    config.method.temperature = 0.3
    method = build(config).method
    assert (method.temperature, method.prototypes, method.encoder.head.dim) == (0.3, 12, 8)
    config.data.crops = ((1, 16, 0.4, 1.0),)
    with pytest.raises(ConfigError, match="compares crops of an image"):
        build(config)
    config.method.epsilon = 0.0
    with pytest.raises(ConfigError, match=r"method\.epsilon is 0\.0"):
        build(config)


def test_embeddings_are_the_outputs_unless_a_method_says_otherwise(config):
    encoder = build(config).method.encoder
    crops = (jax.random.uniform(jax.random.key(0), (4, 2, 16, 16, 3)),)
    method = Method(encoder)
    params, batch_stats, extra = method.init(jax.random.key(1), crops, 4)
    outputs, new = method.forward(params, batch_stats, extra, crops)
    expected, updates = encoder.apply(
        {"params": params, "batch_stats": batch_stats}, crops, train=True, mutable=["batch_stats"]
    )
    np.testing.assert_array_equal(outputs, expected)
    jax.tree.map(np.testing.assert_array_equal, new, updates["batch_stats"])
    assert extra == {} and method.assignments(extra) is None
    clusters = jnp.zeros((1, 4), jnp.int32)
    assert method.assignments({"assignments": clusters}) is clusters
