"""Reads checkpoints, whole or in parts, without the run that wrote them; see `store` for the rest.

All that is read is compared with the seal: damage is an error, never a wrong number.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from swav_jax import sharding
from swav_jax.checkpoints.seal import CheckpointError, read_seal, wrong_leaves
from swav_jax.runtime.storage import AnyPath, copy_file, located
from swav_jax.workdir import CHECKPOINTS, SEAL, saved_steps

# Orbax logs dozens of lines for each save, and a failure once for each thread with its stack. What
# matters reaches us as an exception and is reported in one line; `--verbosity=1` shows the rest.
logging.get_absl_logger().addFilter(
    lambda record: "/orbax/" not in record.pathname or logging.get_verbosity() >= logging.DEBUG
)


def load_variables(
    path: str | AnyPath, subtrees: Iterable[str] = ("params", "batch_stats")
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads parts of a checkpoint, and only those, without knowing the state they belong to.

    Args:
      path: a workdir, its `checkpoints` folder (the newest is read) or one checkpoint's folder.
      subtrees: names of branches or leaves, such as "params/backbone".

    Returns:
      `(variables, metadata)`: nested dicts of arrays, rooted at the state ({"params": {"backbone":
      ...}}), and what was passed to `save`. The arrays are whole on every device of the current
      mesh, or on this process's first device without one.

    Raises:
      FileNotFoundError: there is no checkpoint.
      KeyError: it has no such branch.
      CheckpointError: what was to be read is damaged, or needs JAX_ENABLE_X64.
    """
    folder = find(path)
    seal = read_seal(folder)
    wanted: dict[str, jax.ShapeDtypeStruct] = {}
    for subtree in subtrees:
        found = {
            name: leaf
            for name, leaf in seal["leaves"].items()
            if f"{name}/".startswith(f"{subtree}/")
        }
        if not found:
            branches = sorted({"/".join(name.split("/")[:2]) for name in seal["leaves"]})
            raise KeyError(f"{folder} has no {subtree!r}; it has {', '.join(branches)}")
        for name, leaf in found.items():
            if jax.dtypes.canonicalize_dtype(leaf["dtype"]) != leaf["dtype"]:
                raise CheckpointError(
                    f"{folder} holds {leaf['dtype']} numbers, which JAX reads where the "
                    "environment variable JAX_ENABLE_X64=1 is set"
                )
            wanted[name] = placed(jax.ShapeDtypeStruct(leaf["shape"], leaf["dtype"]))
    loaded = load_leaves(folder, wanted)
    if damage := wrong_leaves(loaded, seal["leaves"]):
        raise CheckpointError(f"{folder} is damaged: {damage}; name an earlier one")
    return unflatten_dict(loaded, sep="/"), seal["metadata"]


def load_metadata(path: str | AnyPath) -> dict[str, Any]:
    """What was passed to `save` with the checkpoint at `path` (see `load_variables`)."""
    return read_seal(find(path))["metadata"]


def saved_names(path: str | AnyPath) -> list[str]:
    """The names of all leaves of the checkpoint at `path` (see `load_variables`)."""
    return list(read_seal(find(path))["leaves"])


def find(path: str | AnyPath) -> AnyPath:
    """The folder of the newest checkpoint at a workdir, a folder of checkpoints, or one itself."""
    path = located(path)
    if (path / SEAL).exists():
        return path
    directory = path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path
    steps = saved_steps(directory)
    if not steps:
        raise FileNotFoundError(f"there is no checkpoint in {directory}")
    return directory / str(max(steps))


def placed(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a leaf, and the devices it goes to: its own, or those of the mesh."""
    place = getattr(leaf, "sharding", None)
    place = sharding.anywhere() if place is None else place
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)


def load_leaves(folder: AnyPath, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Array]:
    """Reads the named leaves. Orbax stores no empty arrays, so those are made.

    Raises:
      CheckpointError: Orbax could not read them.
    """
    from orbax.checkpoint import v1 as ocp  # a second, only for those who read arrays

    context = ocp.Context()
    context.pytree_options.loading.partial_load = True
    stored = {name: leaf for name, leaf in wanted.items() if leaf.size}
    try:
        with context, _within_reach(folder) as place:
            loaded = flatten_dict(ocp.load(place, unflatten_dict(stored, sep="/")), sep="/")
    except Exception as error:
        raise CheckpointError(f"Orbax could not read {folder}: {error}") from error
    return {
        name: loaded[name] if leaf.size else jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)
        for name, leaf in wanted.items()
    }


def orbax_reaches(path: AnyPath) -> bool:
    """Whether Orbax reads and writes arrays there: of the buckets, it knows gs:// alone."""
    return not os.fspath(path).startswith("s3://")


@contextmanager
def _within_reach(folder: AnyPath) -> Iterator[AnyPath]:
    """The folder of a checkpoint, or a copy on a disk where Orbax cannot read it."""
    if orbax_reaches(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        for name in read_seal(folder)["files"]:
            copy_file(folder / name, Path(place) / name)
        yield Path(place)
