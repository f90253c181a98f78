"""PyTorch's names and layouts of parameters to ours and back, by rule.

A numbered part joins the one before it (`layer1.0.conv1.weight` is `layer1_0/conv1/kernel`), and
the last part says what the array is. Kernels are (O, I, kH, kW) there and (kH, kW, I, O) here,
linear layers (out, in) there and (in, out) here; prototypes keep their [K, D].
"""

import re
from collections.abc import Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

_OURS = {
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
    "bias": ("params", "bias"),
}
_THEIRS = {ours: theirs for theirs, (_, ours) in _OURS.items()}


def our_path(name: str, ndim: int) -> tuple[str, ...]:
    """Path of PyTorch's `name` in our variables; `ndim` tells a kernel from a batch norm's scale.

    `layer1.0.bn1.running_var` gives `("batch_stats", "backbone", "layer1_0", "bn1", "var")`.
    """
    *modules, leaf = re.sub(r"\.(\d+)(?=\.)", r"_\1", name).split(".")
    if modules[0] == "prototypes":
        return ("params", "prototypes", *(modules[1:] or ["prototypes0"]))
    collection, kind = _OURS.get(leaf, ("params", "kernel" if ndim > 1 else "scale"))
    network = "head" if modules[0].startswith("projection_head") else "backbone"
    return (collection, network, *modules, kind)


def torch_name(path: tuple[str, ...]) -> str:
    """The PyTorch name of our `path`, the inverse of `our_path`."""
    _, *modules = path
    if modules[0] == "prototypes":
        return ".".join((*modules, "weight"))
    _, *modules, kind = modules
    parts = [re.sub(r"_(\d+)$", r".\1", module) for module in modules]
    return ".".join((*parts, _THEIRS.get(kind, "weight")))


def from_torch(state_dict: Mapping[str, np.ndarray]) -> dict:
    """Our variables `{"params": ..., "batch_stats": ...}` from a PyTorch state dict of arrays."""
    flat = {}
    for name, value in state_dict.items():
        if not name.endswith("num_batches_tracked"):  # Unused at a fixed momentum.
            path = our_path(name, value.ndim)
            flat[path] = value.transpose(_to_ours(path, value.ndim))
    return unflatten_dict(flat)


def to_torch(variables: Mapping) -> dict[str, np.ndarray]:
    """A PyTorch state dict of arrays from our variables, the inverse of `from_torch`."""
    flat = flatten_dict(variables)
    tensors = {
        torch_name(path): np.asarray(value).transpose(np.argsort(_to_ours(path, np.ndim(value))))
        for path, value in flat.items()
    }
    if ("params", "prototypes", "prototypes1") not in flat:  # One set of prototypes is no list.
        first = tensors.pop("prototypes.prototypes0.weight", None)
        tensors |= {} if first is None else {"prototypes.weight": first}
    return tensors


def _to_ours(path: tuple[str, ...], ndim: int) -> list[int]:
    """Order of PyTorch's axes in our layout."""
    axes = list(range(ndim))
    return axes[2:] + axes[1::-1] if path[-1] == "kernel" else axes
