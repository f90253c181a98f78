"""Features as other libraries compute them from exported files, in a process of its own.

TensorFlow, which this process may have loaded, and Triton, which PyTorch's libraries load, crash
each other.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float32

from swav_jax.config import ConfigError


def features_by(
    library: str, folder: Path, images: Float32[np.ndarray, "N S S 3"]
) -> Float32[np.ndarray, "N F"] | None:
    """The features of normalised images, or None where the library is not installed.

    Args:
      library: of READERS.
      folder: of the exported files.
      images: to compute them of.

    Raises:
      RuntimeError: the library cannot read the files.
    """
    if not find_spec(library) or not find_spec("torch"):
        return None
    with TemporaryDirectory() as scratch:
        given, found = Path(scratch, "images.npy"), Path(scratch, "features.npy")
        np.save(given, images)
        command = [sys.executable, "-m", __name__, library, str(folder), str(given), str(found)]
        child = subprocess.run(command, capture_output=True, text=True)
        if child.returncode:
            raise RuntimeError(f"{library} could not read {folder}:\n{child.stderr}")
        return np.load(found)


def torch_or_error() -> Any:
    """PyTorch.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise ConfigError("files of PyTorch need torch: pip install 'swav_jax[torch]'") from None
    return torch


def _torchvision(folder: Path) -> Callable[[Any], Any]:
    import torch
    from torchvision import models

    tensors = torch.load(folder / "torchvision.pth", weights_only=True)
    classes = len(tensors.get("fc.bias", ()))
    model = models.get_model(folder.joinpath("arch.txt").read_text(), num_classes=max(classes, 1))
    if not classes:
        model.fc = torch.nn.Identity()
    model.load_state_dict(tensors, strict=True)
    model.fc = torch.nn.Identity()
    return model.eval()


def _timm(folder: Path) -> Callable[[Any], Any]:
    import timm

    model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
    model.reset_classifier(0)
    return model.eval()


def _transformers(folder: Path) -> Callable[[Any], Any]:
    from transformers import ResNetModel

    model = ResNetModel.from_pretrained(folder).eval()
    return lambda images: model(images).pooler_output


# From a folder of exported files to a function of images [N, 3, S, S].
READERS: Mapping[str, Callable[[Path], Callable[[Any], Any]]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "transformers": _transformers,
}


def main(library: str, folder: str, images: str, features: str) -> None:
    """Reads images from one `.npy` file, and writes their features [N, F] into another."""
    import torch

    model = READERS[library](Path(folder))
    with torch.no_grad():
        found = model(torch.from_numpy(np.load(images).transpose(0, 3, 1, 2).copy()))
    np.save(features, found.flatten(1).numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
