"""PyTorch's names and layouts of parameters to ours and back, by rule.

A numbered part joins the one before it (`layer1.0.conv1.weight` is `layer1_0/conv1/kernel`), and
the last part says what the array is. Kernels are (O, I, kH, kW) there and (kH, kW, I, O) here,
linear layers (out, in) there and (in, out) here; prototypes keep their [K, D].

AlexNet and VGG16 also differ: convolutions before a batch norm have a bias there, and the map that
the first linear layer sees is flattened channels first there and channels last here.
"""

import math
import re
from collections.abc import Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

Path = tuple[str, ...]

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
    """Our variables `{"params": ..., "batch_stats": ...}` from a PyTorch state dict of arrays.

    Raises:
      ValueError: a convolution has a bias and no batch norm after it.
    """
    flat = {}
    for name, value in _without_convolution_biases(state_dict).items():
        if not name.endswith("num_batches_tracked"):  # Unused at a fixed momentum.
            path = our_path(name, value.ndim)
            flat[path] = value.transpose(_to_ours(path, value.ndim))
    for path, (side, channels) in _flattened_maps(flat).items():
        kernel = flat[path].reshape(channels, side, side, -1)
        flat[path] = kernel.transpose(1, 2, 0, 3).reshape(flat[path].shape)
    return unflatten_dict(flat)


def to_torch(variables: Mapping) -> dict[str, np.ndarray]:
    """A PyTorch state dict of arrays from our variables, the inverse of `from_torch`.

    The biases of convolutions that it took away are zeros.
    """
    flat = {path: np.asarray(value) for path, value in flatten_dict(variables).items()}
    for path, (side, channels) in _flattened_maps(flat).items():
        kernel = flat[path].reshape(side, side, channels, -1)
        flat[path] = kernel.transpose(2, 0, 1, 3).reshape(flat[path].shape)
    for path in _convolutions_of_sequences(flat):
        flat[*path[:-1], "bias"] = np.zeros_like(flat[path], shape=flat[path].shape[-1:])
    tensors = {
        torch_name(path): value.transpose(np.argsort(_to_ours(path, value.ndim)))
        for path, value in flat.items()
    }
    if ("params", "prototypes", "prototypes1") not in flat:  # One set of prototypes has no number.
        first = tensors.pop("prototypes.prototypes0.weight", None)
        tensors |= {} if first is None else {"prototypes.weight": first}
    return tensors


def _without_convolution_biases(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same function without biases of convolutions before a batch norm, as of AlexNet, VGG16.

    The norm subtracts the mean, running or of the batch, and with it the bias: without the bias the
    running mean is lower by as much, and that of a batch is so by itself.
    """
    tensors = dict(state_dict)
    for name in state_dict:
        module, _, kind = name.rpartition(".")
        if kind != "bias" or state_dict[f"{module}.weight"].ndim < 4:
            continue
        sequence, _, number = module.rpartition(".")
        mean = f"{sequence}.{int(number) + 1}.running_mean" if number.isdecimal() else ""
        if mean not in state_dict:
            raise ValueError(
                f"{name} is the bias of a convolution without a batch norm after it, which no "
                "network here has"
            )
        tensors[mean] = state_dict[mean] - tensors.pop(name)
    return tensors


def _flattened_maps(flat: Mapping[Path, np.ndarray]) -> dict[Path, tuple[int, int]]:
    """The first linear layer behind convolutions, and side and channels of the map that it sees.

    The rows of its kernel are the map's places and channels, (C, H, W) there and (H, W, C) here.
    """
    linear = [path for path in flat if path[2].startswith("classifier_") and path[-1] == "kernel"]
    convolutions = _convolutions_of_sequences(flat)
    if not linear or not convolutions:
        return {}
    first, last = min(linear, key=_number), max(convolutions, key=_number)
    channels = flat[last].shape[-1]
    return {first: (math.isqrt(len(flat[first]) // channels), channels)}


def _convolutions_of_sequences(flat: Mapping[Path, np.ndarray]) -> list[Path]:
    """Kernels of AlexNet's and VGG16's convolutions, which have a bias in PyTorch."""
    return [path for path in flat if path[2].startswith("features_") and flat[path].ndim == 4]


def _number(path: Path) -> int:
    """Of a layer in its sequence: `features_3` is 3."""
    return int(path[2].rpartition("_")[2])


def _to_ours(path: tuple[str, ...], ndim: int) -> list[int]:
    """Order of PyTorch's axes in our layout."""
    axes = list(range(ndim))
    return axes[2:] + axes[1::-1] if path[-1] == "kernel" else axes
