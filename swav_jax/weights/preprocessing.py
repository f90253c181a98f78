"""How images were prepared for the weights in a file, as the file or another beside it says."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import logging

from swav_jax.weights.network import Preprocessing
from swav_jax.weights.torch_io import WeightsError, read_metadata

BILINEAR = "bilinear"  # the only interpolation here
WARPED_FROM = 384  # pixels from which ConvNeXt's image processor does not crop


def read_preprocessing(path: str | Path) -> tuple[Preprocessing, Path] | None:
    """What is said of the images of a file of weights, and by which file; None if nothing is.

    Raises:
      WeightsError: the file that should say it is damaged.
    """
    path = Path(path).expanduser()
    if said := read_metadata(path).get("preprocessing"):
        return _parsed(path, said, _ours), path
    for name, read in BESIDE.items():
        file = path.with_name(name)
        if file.is_file() and (found := _parsed(file, file.read_bytes(), read)):
            return found, file
    return None


def _parsed(file: Path, text: str | bytes, read: Callable[[Any], Preprocessing | None]) -> Any:
    try:
        return read(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise WeightsError(f"{file} does not say how images are prepared: {problem!r}") from None


def _ours(said: Mapping[str, Any]) -> Preprocessing:
    """As `--task=export` writes it."""
    return Preprocessing(
        mean=tuple(said["mean"]),
        std=tuple(said["std"]),
        resize=int(said["resize"]),
        crop=int(said["crop"]),
        interpolation=said["interpolation"],
    )


def _transformers(said: Mapping[str, Any]) -> Preprocessing:
    """Of an image processor: of ConvNeXt's kind, which ResNets have, or with a centre crop."""
    size = said["size"]
    side = size if isinstance(size, int) else size.get("shortest_edge") or size["height"]
    if said.get("do_center_crop"):
        crop = said["crop_size"]
        resize, crop = side, crop if isinstance(crop, int) else crop["height"]
    elif side >= WARPED_FROM:
        _warn_of_warping()
        resize = crop = side
    else:
        resize, crop = math.floor(side / (said.get("crop_pct") or 224 / 256)), side
    return Preprocessing(
        mean=tuple(said["image_mean"]),
        std=tuple(said["image_std"]),
        resize=resize if said.get("do_resize", True) else 0,
        crop=crop,
        interpolation={2: BILINEAR, 3: "bicubic"}.get(said.get("resample", 2), "another"),
    )


def _timm(said: Mapping[str, Any]) -> Preprocessing | None:
    """Of timm's `config.json`; other libraries have a file of this name too."""
    if "pretrained_cfg" not in said:
        return None
    said = said["pretrained_cfg"]
    crop = said["input_size"][-1]
    if said.get("crop_mode", "center") != "center":
        _warn_of_warping()
    return Preprocessing(
        mean=tuple(said["mean"]),
        std=tuple(said["std"]),
        resize=math.floor(crop / said["crop_pct"]),
        crop=crop,
        interpolation=said["interpolation"],
    )


def _warn_of_warping() -> None:
    logging.warning(
        "these weights were made for images that are warped to a square or get borders: here their "
        "centre is cut out instead"
    )


# Files beside the weights, in the order of trust.
BESIDE: Mapping[str, Callable[[Any], Preprocessing | None]] = {
    "preprocessing.json": _ours,
    "preprocessor_config.json": _transformers,
    "config.json": _timm,
}
