"""Pytrees by the names of their leaves: "params/backbone/conv1/kernel", "opt_state/0/trace/..."."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """Every leaf by its name, in the order of `jax.tree.leaves`."""
    return {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def map_named(function: Callable[[str, Any], Any], tree: PyTree) -> PyTree:
    """The tree with `function(name, leaf)` in place of each leaf."""
    return jax.tree.map_with_path(lambda path, leaf: function(_name(path), leaf), tree)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
