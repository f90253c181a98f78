"""The tensors in a file of weights, by name. Nothing in a file is ever run."""

import argparse
import importlib
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (
    ".safetensors",
    ".pth",
    ".pth.tar",
    ".pt",
    ".bin",
    ".ckpt",
    ".torch",
)  # for what is said to users
DEEPEST = 16  # there are no weights deeper in dicts, and a dict may contain itself


class WeightsError(ValueError):
    """A file of weights that cannot be used; the message says why."""


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """All tensors of a file, those of floating-point numbers in float32.

    Args:
      path: of a `.safetensors` file, or of one that `torch.save` wrote, in PyTorch's old or new
        format. The names in nested dicts are joined by dots: `state_dict.conv1.weight`.

    Raises:
      FileNotFoundError: there is no such file.
      WeightsError: it is damaged or no such file, or holds more than numbers, or the package that
        reads it is missing.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise WeightsError(f"{path} is a folder{_files_in(path)}")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.stat().st_size:
        raise WeightsError(f"{path} is empty")
    return _of_safetensors(path) if path.suffix == ".safetensors" else _of_torch(path)


def read_metadata(path: str | Path) -> dict[str, str]:
    """What a `.safetensors` file says besides its tensors; empty for any other file.

    Raises:
      WeightsError: the file is damaged.
    """
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        return {}
    with _opened(path) as file:
        return file.metadata() or {}


def _files_in(folder: Path) -> str:
    found = sorted(file.name for file in folder.iterdir() if file.name.endswith(SUFFIXES))
    return f": name a file in it, such as {folder / found[0]}" if found else " without weights"


def _of_safetensors(path: Path) -> dict[str, np.ndarray]:
    with _opened(path) as file:
        names = file.keys()
        return {name: _in_float32(file.get_tensor(name)) for name in names}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A `.safetensors` file, whose errors are in one line."""
    safetensors = _package("safetensors")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {error}") from None


def _of_torch(path: Path) -> dict[str, np.ndarray]:
    torch = _package("torch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: what is wrong is an error
            with torch.serialization.safe_globals(_plain()):
                contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what damaged bytes raise is of any type
        raise WeightsError(f"{path} {_complaint(error)}") from None
    return {
        name: _in_float32(_as_array(tensor)) for name, tensor in _flattened(contents, torch.Tensor)
    }


def _as_array(tensor: Any) -> np.ndarray:
    """A tensor of PyTorch in NumPy, which has no bfloat16."""
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    dense = tensor.detach().to_dense()
    return (dense.float() if dense.is_floating_point() else dense).numpy()


def _plain() -> list[Any]:
    """What many checkpoints hold beside tensors and can only be data: arguments and numbers."""
    scalar: Any = np.float64(0).__reduce__()[0]
    codes = np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"
    kinds = {type(np.dtype(code)) for code in codes}
    older = (scalar, "numpy.core.multiarray.scalar")  # its name before NumPy 2
    return [argparse.Namespace, np.dtype, scalar, older, *kinds]


def _complaint(error: Exception) -> str:
    """Why PyTorch did not read a file, in one line."""
    refused = (
        re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.PickleError) else None
    )
    if refused:
        return (
            f"holds {refused[1]}, which is no number and may run code, so nothing was read. If you "
            "trust the file, load it by PyTorch and save its weights alone: "
            "torch.save(model.state_dict(), FILE)"
        )
    reason = re.sub(r"Weights only load failed\b.*", "", str(error).partition("\n")[0])
    return (
        "is damaged, cut short, or not a file of weights"
        f"{f' ({reason})' if reason else ''}; read are {', '.join(SUFFIXES)}"
    )


def _flattened(tree: Any, leaf: type, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The leaves in nested dicts, by their path."""
    if isinstance(tree, leaf):
        yield ".".join(path), tree
    elif isinstance(tree, Mapping) and len(path) < DEEPEST:
        for key, value in tree.items():
            yield from _flattened(value, leaf, (*path, str(key)))


def _in_float32(array: np.ndarray) -> np.ndarray:
    """The array; in float32 if its numbers are floating-point ones, bfloat16 among them."""
    whole = array.dtype.kind in "iub"
    return array if whole else array.astype(np.float32)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)  # PyTorch takes seconds, and few read such files
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise WeightsError(f"this file needs the package {name}: pip install {name}") from None
