import jax
import numpy as np
import pytest
from tiny import start, tiny_config, tiny_swav

import swav_jax
from swav_jax import train
from swav_jax.config import ConfigError
from swav_jax.run import build
from swav_jax.step import state_shapes
from swav_jax.weights.origin import open_origin, start_from


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained")
    config = tiny_swav()
    config.train.steps = 2
    train.pretrain(config, workdir)
    return workdir


@pytest.mark.parametrize("method", ["swav", "moco"])
def test_training_starts_from_it_in_every_copy(trained, method):
    config = tiny_swav() if method == "swav" else tiny_config(method)
    config.method.queue_length = 32
    config.init_from = str(trained)
    run = build(config, devices=jax.devices()[:2])
    with jax.set_mesh(run.mesh):
        fresh, _ = start(run)
        state = start_from(fresh, open_origin(run.config, state_shapes(run)))
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
