"""Checks in every test that arrays have the shapes and dtypes that swav_jax's signatures promise.

pyproject.toml names `check` to jaxtyping's plugin, which wraps the package's functions when they
are imported.
"""

from inspect import isclass
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def check(function):
    """Looks at arrays alone: all other types are mypy's."""
    hints = {name: hint for name, hint in function.__annotations__.items() if _has_shape(hint)}
    # JAX makes dataclasses of whatever takes an array's place, such as shardings.
    if not hints or function.__name__ == "__init__":
        return function
    function.__annotations__ = hints
    return beartype(function)


def _has_shape(hint):
    if not (isclass(hint) and issubclass(hint, AbstractArray)):
        return any([_has_shape(part) for part in get_args(hint)])  # each is to be seen
    hint.array_type = Any  # tests may give NumPy's arrays where JAX's are expected
    return True
