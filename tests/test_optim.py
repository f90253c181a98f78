import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from swav_jax import optim
from swav_jax.config import defaults


def steps(schedule, n):
    return np.array([schedule(jnp.int32(i)) for i in range(n)])


def test_warmup_reaches_the_base_twice_then_follows_the_cosine():
    schedule = optim.warmup_cosine(base=4.8, final=0.0, start=0.3, warmup_steps=4, total_steps=8)
    expected = [0.3, 1.8, 3.3, 4.8, 4.8, 2.4 * (1 + np.cos(np.pi / 4)), 2.4]
    np.testing.assert_allclose(steps(schedule, 7), expected, rtol=1e-6)


def test_no_warmup_starts_at_the_base():
    schedule = optim.warmup_cosine(base=0.6, final=0.1, start=0.0, warmup_steps=0, total_steps=10)
    np.testing.assert_allclose(steps(schedule, 1), [0.6], rtol=1e-6)


def test_one_step_of_warmup_is_at_its_start():
    schedule = optim.warmup_cosine(base=0.6, final=0.1, start=0.2, warmup_steps=1, total_steps=10)
    np.testing.assert_allclose(steps(schedule, 2), [0.2, 0.6], rtol=1e-6)


def test_cosine_by_epoch_changes_once_an_epoch():
    settings = ConfigDict(
        {"base_lr": 1.0, "final_lr": 0.0, "start_lr": 0.0, "warmup_epochs": 0.0}
        | {"schedule": "cosine_by_epoch", "drop_epochs": ()}
    )
    schedule = optim.schedule(settings, steps_per_epoch=3, total_steps=12)
    expected = np.repeat(0.5 * (1 + np.cos(np.pi * np.arange(4) / 4)), 3)
    np.testing.assert_allclose(steps(schedule, 12), expected, rtol=1e-6)


def test_drops():
    schedule = optim.drops(base=0.03, at_steps=[2, 4])
    np.testing.assert_allclose(steps(schedule, 5), [0.03, 0.03, 0.003, 0.003, 0.0003], rtol=1e-6)


def test_drops_of_a_configuration_fall_by_its_factor():
    config = defaults()
    config.optim.schedule, config.optim.base_lr = "drops", 0.5
    config.optim.drop_epochs, config.optim.drop_factor = (1, 2), 0.2
    schedule = optim.schedule(config.optim, steps_per_epoch=2, total_steps=6)
    np.testing.assert_allclose(steps(schedule, 6), np.repeat([0.5, 0.1, 0.02], 2), rtol=1e-6)


def test_constant():
    np.testing.assert_allclose(steps(optim.drops(base=0.05, at_steps=[]), 3), 0.05, rtol=1e-6)


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_frozen_parameters_and_momentum_stand_still(name):
    tx = optim.optimizer(name, weight_decay=0.1, momentum=0.9)
    params = {"backbone": {"w": jnp.ones((2, 2))}, "prototypes": {"w": jnp.ones((3, 2))}}
    grads = jax.tree.map(lambda p: 0.5 * p, params)
    _, before = tx.update(grads, tx.init(params), params)
    direction, after = tx.update(grads, before, params)
    kept = optim.freeze({"prototypes": jnp.bool_(True)}, after, before)
    stepped = jax.tree.map(jnp.subtract, params, direction)
    moved = optim.freeze({"prototypes": True}, stepped, params)
    for tree, old in ((kept, before), (moved, params)):
        flat = jax.tree_util.tree_leaves_with_path(tree)
        for (path, new), previous in zip(flat, jax.tree.leaves(old), strict=True):
            same = np.array_equal(new, previous)
            assert same == ("prototypes" in jax.tree_util.keystr(path))


def test_sgd_is_gradient_plus_decay_with_momentum():
    tx = optim.optimizer("sgd", weight_decay=0.1, momentum=0.5)
    params, state = {"w": jnp.array([2.0])}, tx.init({"w": jnp.array([2.0])})
    first, state = tx.update({"w": jnp.array([1.0])}, state, params)
    second, state = tx.update({"w": jnp.array([1.0])}, state, params)
    np.testing.assert_allclose([first["w"], second["w"]], [[1.2], [1.8]], rtol=1e-6)


def test_lars_leaves_vectors_alone():
    tx = optim.optimizer("lars", weight_decay=0.1, momentum=0.0)
    params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full((2,), 3.0)}
    grads = jax.tree.map(jnp.ones_like, params)
    direction, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(direction["bias"], 1.0)
    scaled = 0.001 * np.linalg.norm(np.full(4, 3.0)) / np.linalg.norm(np.full(4, 1.3)) * 1.3
    np.testing.assert_allclose(direction["kernel"], scaled, rtol=1e-6)


def test_some_parameters_have_no_momentum():
    tx = optim.optimizer("sgd", weight_decay=0.0, momentum=0.5, without_momentum=("top",))
    params = {"base": jnp.ones(2), "top": {"kernel": jnp.ones(3)}}
    state = tx.init(params)
    for expected in (1.0, 1.5, 1.75):
        direction, state = tx.update(params, state, params)
        np.testing.assert_allclose(direction["base"], expected)
        np.testing.assert_allclose(direction["top"]["kernel"], 1.0)
    held = optim.freeze({"top": True, "base": True}, state, tx.init(params))
    jax.tree.map(np.testing.assert_array_equal, held, tx.init(params))


@pytest.mark.parametrize(
    ("batch", "lr", "warned"), [(256, 0.6, 0), (4096, 4.8, 0), (64, 4.8, 1), (256, 0.1, 1)]
)
def test_unusual_learning_rates_warn(batch, lr, warned):
    config = defaults()
    config.optim.base_lr, config.optim.start_lr = lr, 0.0
    warnings = optim.lr_warnings(config.optim, batch, epochs=100)
    assert len(warnings) == warned
    assert all("--config.optim.base_lr=0." in warning for warning in warnings)


def test_rates_that_rise_to_the_end_or_fall_in_the_warm_up_warn():
    settings = defaults().optim
    settings.name, settings.base_lr = "sgd", 0.001  # and the other rates are LARC's
    final, start = optim.lr_warnings(settings, 256, epochs=100)
    assert "optim.final_lr 0.0048 is above optim.base_lr 0.001" in final
    assert "--config.optim.final_lr=1e-06" in final
    assert "optim.start_lr 0.3 is above optim.base_lr 0.001" in start
    settings.warmup_epochs, settings.final_lr = 0.0, 0.001
    assert not optim.lr_warnings(settings, 256, epochs=100)
    settings.schedule, settings.final_lr, settings.warmup_epochs = "drops", 1.0, 10.0
    assert not optim.lr_warnings(settings, 256, epochs=10)


def test_a_warm_up_as_long_as_the_training_warns():
    settings = defaults().optim
    settings.warmup_epochs = 10.0
    assert not optim.lr_warnings(settings, 4096, epochs=10.5)
    (warning,) = optim.lr_warnings(settings, 4096, epochs=10)
    assert "warmup_epochs 10 is all of the training's 10 epochs: the rate never falls" in warning
    assert "--config.optim.warmup_epochs=1." in warning
