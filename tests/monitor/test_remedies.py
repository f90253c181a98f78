import pytest
from ml_collections import ConfigDict
from small_run import small

from swav_jax import config as config_lib
from swav_jax.methods.contract import Sizes
from swav_jax.monitor import remedies
from swav_jax.monitor.remedies import SUGGESTIONS, advice

SIZES = Sizes(1500, 128, 6, 11, 220)

CROPS = ((2, 32, 0.1, 1.0), (4, 16, 0.3, 0.4))

# Key, its value now, other settings, the value that is suggested (None: no advice).
CASES = [
    # 0.6 x 128 / 256 is the published rate of LARC; a quarter where the rate is near it already
    ("optim.base_lr", 10.0, {}, 0.36),
    ("optim.base_lr", 0.4, {}, 0.1),
    ("optim.base_lr", 1.0, {"optim.name": "sgd"}, 0.05),
    ("optim.base_lr", 0.04, {"optim.name": "sgd"}, 0.01),
    ("optim.base_lr", 8.0, {"optim.name": "lars"}, 2.0),
    ("method.epsilon", 0.05, {}, 0.02),
    ("method.epsilon", 1.0, {}, 0.05),
    ("method.freeze_prototypes_steps", 0, {}, 11),
    ("method.freeze_prototypes_steps", 30, {}, 60),
    ("method.freeze_prototypes_steps", 110, {}, None),  # half of the run already
    ("method.sinkhorn_iterations", 3, {}, 9),
    ("method.queue_start_epoch", 0, {}, 2),
    ("method.queue_start_epoch", 5, {}, 10),
    ("method.queue_length", 768, {}, 384),
    ("method.queue_length", 384, {}, 128),  # whole batches
    ("model.prototypes", 1000, {}, 75),  # twenty images for each
    ("model.prototypes", 60, {}, 30),
    ("model.prototypes", 60, {"mesh.model": 4}, 28),  # shared by four devices
    ("model.head_norm", False, {}, True),
    ("model.head_norm", True, {}, None),
    ("model.dtype", "bfloat16", {}, "float32"),
    ("model.dtype", "float64", {}, None),
    ("data.crops", CROPS, {}, '"((2, 32, 0.2, 1.0), (4, 16, 0.4, 0.4))"'),
    ("data.threads", 1, {}, 0),
    ("data.threads", 0, {}, None),
    ("data.cache", "auto", {}, "host"),
    ("data.cache", "host", {}, None),
    ("data.crop_on", "auto", {}, None),  # on a CPU, whose crops are slower than the host's
]


@pytest.mark.parametrize(("key", "now", "others", "suggested"), CASES)
def test_a_setting_becomes_one_that_is_known_to_help(key, now, others, suggested):
    expected = None if suggested is None else f"`--config.{key}={suggested}` (now {now})"
    assert advice(key, small(**{key: now}, **others), SIZES) == expected


@pytest.mark.parametrize(("now", "suggested"), [("auto", True), ("device", False)])
def test_an_accelerator_may_cut_the_crops(monkeypatch, now, suggested):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    expected = "`--config.data.crop_on=device` (now auto)" if suggested else None
    assert advice("data.crop_on", small(**{"data.crop_on": now}), SIZES) == expected


def test_every_suggestion_is_tried_here():
    assert {key for key, *_ in CASES} == SUGGESTIONS.keys()


def test_a_setting_that_the_method_lacks_is_no_advice():
    config = config_lib.defaults("simclr")
    assert advice("method.epsilon", config, SIZES) is None


def test_words_stay_as_they_are():
    assert advice(remedies.DIFFER, ConfigDict(), SIZES) == remedies.DIFFER
