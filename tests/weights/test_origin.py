import jax
import numpy as np
import pytest
from tiny import ARCH, start, tiny_config, tiny_swav
from weights import published

import swav_jax
from swav_jax import train
from swav_jax.checkpoints.read import load_variables
from swav_jax.config import ConfigError
from swav_jax.run import build
from swav_jax.step import state_shapes
from swav_jax.trees import named_leaves
from swav_jax.weights.origin import open_origin, start_from


def started(config):
    """The states before and after trained parts are put into it."""
    run = build(config, devices=jax.devices()[:2])
    with jax.set_mesh(run.mesh):
        fresh, _ = start(run)
        return fresh, start_from(fresh, open_origin(run.config, state_shapes(run)))


def assert_equal(trees, others):
    jax.tree.map(np.testing.assert_array_equal, trees, others)


# ---- a run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["swav", "moco"])
def test_training_starts_from_it_in_every_copy(workdir, method):
    config = tiny_swav() if method == "swav" else tiny_config(method)
    config.method.queue_length = 32
    config.init_from = str(workdir)
    fresh, state = started(config)
    _, variables = swav_jax.load_backbone(workdir)
    copies = [state.params["backbone"]]
    if method == "moco":
        copies.append(state.extra["key_encoder"]["backbone"])
    for copy in copies:
        assert_equal(copy, variables["params"])
    assert_equal(state.batch_stats["backbone"], variables["batch_stats"])
    assert_equal(state.params["head"], fresh.params["head"])
    for leaf, place in zip(jax.tree.leaves(state), jax.tree.leaves(fresh), strict=True):
        assert leaf.sharding == place.sharding


def test_more_of_it_if_that_is_said(workdir):
    config = tiny_swav()
    config.init_from, config.init_parts = str(workdir), "backbone,head,prototypes"
    _, state = started(config)
    variables, _ = load_variables(workdir)
    assert_equal({"params": state.params, "batch_stats": state.batch_stats}, variables)


def test_another_network_is_refused(workdir, tmp_path):
    config = tiny_swav()
    config.model.arch = "resnet18_tiny"
    config.init_from = str(workdir)
    with pytest.raises(ConfigError, match=r"init_from.*model\.arch=one_conv.*resnet18_tiny"):
        train.pretrain(config, tmp_path / "other")
    assert not (tmp_path / "other" / "results.json").exists()


def refused(config):
    run = build(config, devices=jax.devices()[:1])
    with jax.set_mesh(run.mesh), pytest.raises(ConfigError) as caught:
        open_origin(run.config, state_shapes(run))
    return str(caught.value)


def test_a_head_that_does_not_fit_names_the_settings(workdir):
    config = tiny_swav()
    config.model.dim, config.model.head_hidden = 6, 12
    config.init_from, config.init_parts = str(workdir), "backbone,head"
    assert refused(config) == (
        f"init_from: the head of {workdir} has model.head_hidden=16, model.dim=8, this run 12, 6. "
        "Set them to the same, or take only --config.init_parts=backbone."
    )


def test_a_part_that_is_nowhere_is_named(workdir):
    config = tiny_swav()
    config.init_from, config.init_parts = str(workdir), "backbone,key_encoder"
    assert f"{workdir} has no key_encoder" in refused(config)
    config = tiny_config("simclr")
    config.init_from, config.init_parts = str(workdir), "backbone,prototypes"
    assert "method simclr has no prototypes" in refused(config)


# ---- a file of another library -------------------------------------------------------------------


@pytest.fixture
def save(tmp_path):
    """Writes tensors into a file."""
    files = pytest.importorskip("safetensors.numpy")

    def write(tensors):
        path = tmp_path / "weights.safetensors"
        files.save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, path)
        return str(path)

    return write


NETWORK = {"arch": ARCH, "stem": "strided"}


def test_all_that_a_file_has_and_the_method_uses(save):
    _, variables, sets = published.network(**NETWORK)
    config = tiny_swav()
    config.model.prototypes, config.model.prototype_heads = 5, 3
    config.init_from = save(published.swav(variables, sets))
    _, state = started(config)
    params = variables["params"] | {"prototypes": sets}
    assert_equal(state.params, params)
    assert_equal(state.batch_stats, variables["batch_stats"])


@pytest.mark.parametrize("with_key_encoder", [True, False])
def test_a_key_encoder_is_the_files_or_a_copy(save, with_key_encoder):
    _, variables, _ = published.network(**NETWORK)
    _, slow, _ = published.network(seed=1, **NETWORK)
    file = published.momentum_contrast(published.swav(variables), "encoder_q")
    if with_key_encoder:
        file |= published.momentum_contrast(published.swav(slow), "encoder_k")
    else:
        slow = variables
    config = tiny_config("moco")
    config.method.queue_length = 32
    config.init_from = save(file)
    _, state = started(config)
    assert_equal(state.params, variables["params"])
    assert_equal(state.extra["key_encoder"], slow["params"])
    assert_equal(state.batch_stats["key_encoder"], slow["batch_stats"])


def test_a_method_takes_what_it_uses(save):
    _, variables, sets = published.network(**NETWORK)
    config = tiny_config("deepcluster")
    config.init_from = save(published.swav(variables, sets))
    fresh, state = started(config)
    assert_equal(state.params["backbone"], variables["params"]["backbone"])
    assert_equal(state.params["classifier"], fresh.params["classifier"])


def test_sets_of_other_sizes_are_refused_and_the_rest_is_taken(save):
    _, variables, sets = published.network(**NETWORK)
    sets["prototypes2"] = np.ones((7, 8), "f")
    config = tiny_swav()
    config.init_from = save(published.swav(variables, sets))
    assert "model.prototypes=5, model.prototype_heads=3, this run 12, 1" in refused(config)
    config.model.prototypes, config.model.prototype_heads = 5, 3
    assert "params/prototypes/prototypes2 has the shape (7, 8)" in refused(config)
    config.init_parts = "backbone,head"
    fresh, state = started(config)
    assert_equal(state.params["head"], variables["params"]["head"])
    assert_equal(state.params["prototypes"], fresh.params["prototypes"])


def test_a_head_of_one_layer_needs_its_setting(save):
    _, variables, _ = published.network(**NETWORK)
    bare = {c: {"backbone": tree["backbone"]} for c, tree in variables.items()}
    file = published.momentum_contrast(published.swav(bare), "encoder_q")
    file |= {"module.encoder_q.fc.weight": np.ones((8, 16), "f")}
    config = tiny_config("simclr")
    config.init_from = save(file)
    assert "the head of" in (message := refused(config)) and "model.head_hidden=0" in message
    config.model.head_hidden = 0
    _, state = started(config)
    assert np.all(state.params["head"]["projection_head"]["kernel"] == 1)


def test_the_same_network_by_another_name_fits(save):
    _, variables, _ = published.network(stem="strided", arch="resnet10_tiny")
    config = tiny_swav()
    config.model.arch, config.model.width = "resnet10_tiny", 8
    config.init_from = save(published.swav(variables))
    assert set(open_origin(config)) == set(named_leaves(variables))
    config.model.width = 16
    with pytest.raises(ConfigError, match=r"has model\.width=0, this run 16"):
        open_origin(config)
