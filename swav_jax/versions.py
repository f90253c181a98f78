"""Settings of runs that other versions of the program made, and what they mean to this one."""

from collections.abc import Mapping
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from swav_jax.config import ConfigError, defaults, of_method, to_dict

# What runs did before a setting existed, by "section.key", where its default is something else.
OLD_MEANING: dict[str, Any] = {}


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that any version made, with what they mean to this version.

    A setting that did not exist then has its default, unless OLD_MEANING says what it was.

    Args:
      settings: as `to_dict` gives them, from a workdir or a checkpoint's metadata; those that this
        version does not have stay.
    """
    known = _known_to(settings)
    old = {key: value for key, value in OLD_MEANING.items() if key in known}
    return unflatten_dict(known | old | _flat(settings), sep=".")


def as_config(settings: Mapping[str, Any]) -> ConfigDict:
    """The configuration of a run that any version made.

    Raises:
      ConfigError: a newer version made the run, or its method is not known here.
    """
    if unknown := unknown_settings(settings):
        raise ConfigError(
            f"a newer version of swav_jax made the run: this one has no settings "
            f"{', '.join(unknown)}"
        )
    config = defaults(completed(settings)["method"]["name"])
    config.update(
        unflatten_dict({k: _tuples(v) for k, v in _flat(completed(settings)).items()}, sep=".")
    )
    return config


def _tuples(value: Any) -> Any:
    """A setting as it was before JSON, which has lists for tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def unknown_settings(settings: Mapping[str, Any]) -> list[str]:
    """The settings of a run that this version does not have, because a newer one made the run."""
    return sorted(_flat(settings).keys() - _known_to(settings).keys())


def changes(settings: Mapping[str, Any], config: ConfigDict) -> list[str]:
    """How a configuration differs from a run's settings, like "model.dim: 128 there, 64 here".

    Args:
      settings: as `completed` takes them.
      config: with all settings.
    """
    there, here = _flat(completed(settings)), _flat(to_dict(config))
    if there["method.name"] != here["method.name"]:  # the other settings of methods say no more
        there, here = (
            {k: v for k, v in flat.items() if k == "method.name" or not k.startswith("method.")}
            for flat in (there, here)
        )
    return [
        f"{key}: {there.get(key)!r} there, {here.get(key)!r} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
    ]


def _known_to(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of all settings for the method of a run."""
    config = defaults()
    name = settings.get("method", {}).get("name", config.method.name)
    return _flat(to_dict(of_method(config, name)))


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    return flatten_dict(settings, sep=".")
