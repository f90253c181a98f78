import json

import pytest

from swav_jax.config import ConfigError, defaults, to_dict
from swav_jax.methods import METHODS
from swav_jax.versions import OLD_MEANING, as_config, changes, completed, unknown_settings


def without(settings, section, key):
    return settings | {section: {k: v for k, v in settings[section].items() if k != key}}


def test_settings_that_did_not_exist_have_the_defaults_of_the_runs_method():
    config = defaults("pcl")
    settings = to_dict(config)
    assert completed({"method": {"name": "pcl"}}) == settings
    assert completed({}) == to_dict(defaults("swav"))
    assert not unknown_settings(settings) and not changes(settings, config)


def test_what_runs_did_before_a_setting_existed_may_differ_from_its_default(monkeypatch):
    monkeypatch.setitem(OLD_MEANING, "model.head_norm", False)
    monkeypatch.setitem(OLD_MEANING, "method.granularity", (1,))  # of no setting of SwAV
    config = defaults()
    old = without(to_dict(config), "model", "head_norm")
    assert completed(old)["model"]["head_norm"] is False
    assert completed(old)["method"] == to_dict(config)["method"]
    assert changes(old, config) == ["model.head_norm: False there, True here"]
    assert not changes(to_dict(config), config)  # it says what it was


def test_settings_of_newer_versions_stay_and_are_named():
    newer = to_dict(defaults()) | {"teacher": {"rate": 0.9}}
    newer["model"]["experts"] = 2
    assert completed(newer)["teacher"] == {"rate": 0.9}
    assert unknown_settings(newer) == ["model.experts", "teacher.rate"]
    assert changes(newer, defaults()) == [
        "model.experts: 2 there, None here",
        "teacher.rate: 0.9 there, None here",
    ]


@pytest.mark.parametrize("name", ["moco", "byol"])
def test_of_another_method_known_or_not_only_the_name_is_told(name):
    settings = to_dict(defaults()) | {"method": {"name": name, "temperature": 0.5}}
    assert changes(settings, defaults()) == [f"method.name: {name!r} there, 'swav' here"]


@pytest.mark.parametrize("method", METHODS)
def test_a_runs_settings_are_a_configuration_again(method):
    config = defaults(method)
    config.data.crops, config.optim.drop_epochs = ((1, 8, 0.1, 1.0), (2, 4, 0.1, 0.5)), (3, 4)
    assert as_config(json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(ConfigError, match=r"newer version .* no settings teacher\.rate"):
        as_config(to_dict(config) | {"teacher": {"rate": 0.9}})
