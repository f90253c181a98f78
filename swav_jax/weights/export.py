"""A trained network in the formats of other libraries, each read back before it counts as written.

A format is a function of FORMATS: it writes files into a folder, reads them again as their users
will, and returns the features of the network's examples as computed from the files.
"""

import dataclasses
import itertools
import json
import math
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from swav_jax.config import ConfigError
from swav_jax.models.resnet import ARCHS, Bottleneck, ResNet
from swav_jax.weights.network import Network
from swav_jax.weights.onnx_graph import run_onnx, write_onnx
from swav_jax.weights.other_names import DETECTRON2, HUGGINGFACE, Rules, renamed
from swav_jax.weights.read_back import features_by, torch_or_error
from swav_jax.weights.stablehlo import run_stablehlo, write_stablehlo
from swav_jax.weights.torch_names import from_torch, to_torch

Features = Float[np.ndarray, "N F"]
Tensors = dict[str, np.ndarray]

TOLERANCE = 1e-4  # of the largest feature
NAMED_ALIKE = ("resnet18", "resnet34", "resnet50", "resnet101")  # in torchvision and timm too


class Proof(NamedTuple):
    """What reading back gave.

    Attributes:
      by: that computed the features.
      features: of the network's examples.
    """

    by: str
    features: Features


def check_format(name: str) -> None:
    """Refuses (ConfigError) a format that is not known, before a network is read for it."""
    if name not in FORMATS:
        raise ConfigError(f"unknown --format={name}; known are {', '.join(FORMATS)}")


def export(network: Network, name: str, folder: Path) -> tuple[Path, str]:
    """Writes a network in the format `name`, and compares what is read back.

    Args:
      network: what is written.
      name: of FORMATS, see `check_format`.
      folder: `<folder>/<name>` is made; one that is there is kept as `<name>.<n>`.

    Returns:
      the folder that was made, and a line that says how far the features agree.

    Raises:
      ConfigError: the format has no place for this network, or needs a package.
      RuntimeError: the features differ.
    """
    unfinished = folder / f".{name}"
    unfinished.mkdir(parents=True, exist_ok=True)
    for file in unfinished.iterdir():  # of an export that did not end
        file.unlink()
    text = json.dumps(network.preprocessing, indent=2)
    (unfinished / "preprocessing.json").write_text(text + "\n")
    by, found = FORMATS[name](network, unfinished)
    wanted = features_of(network)
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not difference <= TOLERANCE:
        raise RuntimeError(
            f"{name}: features by {by} differ by {difference:.2g} of the largest one; the files in "
            f"{unfinished} are not to be used"
        )
    made = folder / name
    if made.exists():
        aside = (folder / f"{name}.{number}" for number in itertools.count(1))
        made.rename(next(path for path in aside if not path.exists()))
    unfinished.rename(made)
    count, size = network.images.shape[:2]
    return made, (
        f"features of {count} images of {size} pixels by {by}: largest difference "
        f"{difference:.2g} of the largest feature"
    )


def features_of(network: Network) -> Features:
    """The features that the network itself gives its examples."""
    apply = jax.jit(partial(network.backbone.apply, train=False))
    with jax.default_matmul_precision("highest"):  # accelerators round factors otherwise
        return np.asarray(apply(network.backbone_variables(), network.images))


# ---- the formats --------------------------------------------------------------------------------


def _torchvision(network: Network, folder: Path) -> Proof:
    """`torchvision.pth`, for `torchvision.models.<arch>().load_state_dict(..., strict=False)`."""
    _as_named_elsewhere(network, "torchvision")
    torch = torch_or_error()
    path = folder / "torchvision.pth"
    tensors = _tensors(network) | _classifier(network)
    torch.save({name: torch.from_numpy(value.copy()) for name, value in tensors.items()}, path)
    (folder / "arch.txt").write_text(network.arch)

    def read() -> Tensors:
        loaded = torch.load(path, weights_only=True)
        return {name: value.numpy() for name, value in loaded.items()}

    return _by_library("torchvision", network, folder, read)


def _timm(network: Network, folder: Path) -> Proof:
    """`model.safetensors` and `config.json`, for `timm.create_model("local-dir:<folder>")`."""
    _as_named_elsewhere(network, "timm")
    tensors, prep = _tensors(network) | _classifier(network), network.preprocessing
    width, size = features_of(network).shape[1], prep["crop"] or network.images.shape[1]
    config = {
        "architecture": network.arch,
        "num_classes": network.classes,
        "num_features": width,
        "global_pool": "avg",
        "pretrained_cfg": {
            "num_classes": network.classes,
            "input_size": [3, size, size],
            "pool_size": [-(-size // 32)] * 2,
            "crop_pct": _crop_pct(size, prep["resize"] or size),
            "interpolation": prep["interpolation"],
            "mean": list(prep["mean"]),
            "std": list(prep["std"]),
            "first_conv": "conv1",
            "classifier": "fc",
        },
    }
    _write_json(folder / "config.json", config)
    path = folder / "model.safetensors"
    _write_safetensors(path, tensors, {"format": "pt"})
    return _by_library("timm", network, folder, partial(_read_safetensors, path))


def _huggingface(network: Network, folder: Path) -> Proof:
    """A folder for `transformers.ResNetModel.from_pretrained(<folder>)`."""
    model = _resnet_with_imagenet_stem(network, "huggingface")
    prep = network.preprocessing
    widths = [model.width * 2**stage * model.block.expansion for stage in range(4)]
    _write_json(
        folder / "config.json",
        {
            "architectures": ["ResNetModel"],
            "model_type": "resnet",
            "num_channels": 3,
            "embedding_size": model.width,
            "hidden_sizes": widths,
            "depths": list(model.stage_sizes),
            "layer_type": "bottleneck" if model.block is Bottleneck else "basic",
            "hidden_act": "relu",
            "downsample_in_first_stage": False,
            "downsample_in_bottleneck": False,
            "torch_dtype": "float32",
        },
    )
    size = prep["crop"] or network.images.shape[1]
    _write_json(
        folder / "preprocessor_config.json",
        {
            # Not ConvNeXt's, which ResNets have there: from 384 pixels on it does not crop.
            "image_processor_type": "BitImageProcessor",
            "do_resize": bool(prep["resize"]),
            "size": {"shortest_edge": prep["resize"] or size},
            "do_center_crop": bool(prep["crop"] or prep["resize"]),
            "crop_size": {"height": size, "width": size},
            "do_convert_rgb": True,
            "resample": 2,  # Pillow's bilinear
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(prep["mean"]),
            "image_std": list(prep["std"]),
        },
    )
    (folder / "README.md").write_text(_model_card(network))
    path = folder / "model.safetensors"
    renamed_tensors = _renamed(_tensors(network), HUGGINGFACE)
    _write_safetensors(path, renamed_tensors, {"format": "pt"})
    read = partial(_read_safetensors, path)
    return _by_library("transformers", network, folder, read, HUGGINGFACE)


def _detectron2(network: Network, folder: Path) -> Proof:
    """`detectron2.pkl`, for `MODEL.WEIGHTS`; what else its config must say is beside it."""
    model = _resnet_with_imagenet_stem(network, "detectron2")
    tensors = _renamed(_tensors(network, counters=False), DETECTRON2)
    path = folder / "detectron2.pkl"
    contents = {"model": tensors, "__author__": "swav_jax", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(contents))
    prep = network.preprocessing
    settings = {
        "MODEL.WEIGHTS": path.name,
        "MODEL.RESNETS.DEPTH": 2 + model.block.convolutions * sum(model.stage_sizes),
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.RESNETS.STEM_OUT_CHANNELS": model.width,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": model.width * model.block.expansion,
        "MODEL.RESNETS.WIDTH_PER_GROUP": model.width,
        "MODEL.RESNETS.NORM": "SyncBN",
        "MODEL.PIXEL_MEAN": [255 * mean for mean in prep["mean"]],
        "MODEL.PIXEL_STD": [255 * std for std in prep["std"]],
        "INPUT.FORMAT": "RGB",
    }
    _write_json(folder / "settings.json", settings)
    loaded = pickle.loads(path.read_bytes())["model"]  # that was written just now
    return _by_ourselves(network, loaded, DETECTRON2)


def _safetensors(network: Network, folder: Path) -> Proof:
    """`model.safetensors`: backbone, head and prototypes, by the published checkpoints' names."""
    path = folder / "model.safetensors"
    about = {
        "format": "pt",
        "arch": network.arch,
        "stem": network.stem,
        "preprocessing": json.dumps(network.preprocessing),
    }
    _write_safetensors(path, _all_tensors(network), about)
    return _by_ourselves(network, _read_safetensors(path))


def _onnx(network: Network, folder: Path) -> Proof:
    """`model.onnx`: `images` [N, 3, H, W] to `features` [N, F]."""
    if not isinstance(network.backbone, ResNet):
        raise ConfigError(f"onnx: only ResNets are written, and this is {network.arch}. {_FOR_ALL}")
    if not find_spec("onnx"):
        raise ConfigError("--format=onnx needs the package onnx: pip install onnx onnxruntime")
    path = folder / "model.onnx"
    metadata = {"preprocessing": json.dumps(network.preprocessing), "about": network.about}
    write_onnx(path, network.backbone, _tensors(network, counters=False), metadata)
    return Proof("ONNX", run_onnx(path, network.images))


def _stablehlo(network: Network, folder: Path) -> Proof:
    """`model.stablehlo`, for `jax.export.deserialize`, on a CPU, a CUDA GPU or a TPU."""
    path = folder / "model.stablehlo"
    size = network.images.shape[1]
    write_stablehlo(path, network.backbone, network.backbone_variables(), size)
    (folder / "README.md").write_text(
        f"`jax.export.deserialize` of jax {jax.__version__}, and of its versions of at least the "
        f"next six months, reads `{path.name}`. It takes any number of images of {size} pixels, "
        "normalised as `preprocessing.json` says: float32 [b, H, W, 3].\n"
    )
    return Proof("the program", run_stablehlo(path, network.images))


FORMATS: Mapping[str, Callable[[Network, Path], Proof]] = {
    "torchvision": _torchvision,
    "detectron2": _detectron2,
    "timm": _timm,
    "huggingface": _huggingface,
    "safetensors": _safetensors,
    "onnx": _onnx,
    "stablehlo": _stablehlo,
}
_FOR_ALL = "--format=safetensors and --format=stablehlo take every network"


# ---- what they share ----------------------------------------------------------------------------


def _as_named_elsewhere(network: Network, library: str) -> None:
    model = _resnet_with_imagenet_stem(network, library)
    if network.arch not in NAMED_ALIKE or model.width != ARCHS[network.arch]["width"]:
        raise ConfigError(
            f"{library} has no {network.arch} of width {model.width}, only "
            f"{', '.join(NAMED_ALIKE)} of their usual one; --format=huggingface and --format=onnx "
            f"take ResNets of any width. {_FOR_ALL}"
        )


def _resnet_with_imagenet_stem(network: Network, library: str) -> ResNet:
    model = network.backbone
    if not isinstance(model, ResNet) or len(model.stage_sizes) != 4 or model.stem != "imagenet":
        raise ConfigError(
            f"{library} has no {network.arch} with the stem {network.stem}: it knows ResNets with "
            f"the stem imagenet. --format=onnx takes ResNets with any stem; {_FOR_ALL}"
        )
    return model


def _tensors(network: Network, counters: bool = True) -> Tensors:
    """The backbone by torchvision's names, with the counter of batches that its norms have."""
    variables = {name: {"backbone": tree["backbone"]} for name, tree in network.variables.items()}
    tensors = to_torch(variables)
    if counters:
        means = [name for name in tensors if name.endswith(".running_mean")]
        zero = np.zeros((), np.int64)
        tensors |= {name.replace("running_mean", "num_batches_tracked"): zero for name in means}
    return tensors


def _all_tensors(network: Network) -> Tensors:
    """All parts by the names of the published SwAV checkpoints, the classifier by torchvision's."""
    params = dict(network.variables["params"])
    params.pop("classifier", None)
    return to_torch({**network.variables, "params": params}) | _classifier(network)


def _classifier(network: Network) -> Tensors:
    """The linear classifier by torchvision's names; empty if none was trained."""
    if not network.classes:
        return {}
    classifier = network.variables["params"]["classifier"]
    return {"fc.weight": classifier["kernel"].T, "fc.bias": classifier["bias"]}


def _crop_pct(crop: int, resize: int) -> float:
    """The share with which timm, which rounds down, finds `resize` again."""
    share = crop / resize
    return share if math.floor(crop / share) == resize else math.nextafter(share, 0)


def _renamed(tensors: Tensors, rules: Rules) -> Tensors:
    return {new: tensors[old] for old, new in renamed(tensors, rules).items()}


def _by_library(
    library: str, network: Network, folder: Path, read: Callable[[], Tensors], rules: Rules = ()
) -> Proof:
    """The library's features, or ours from the tensors read back where it is not installed."""
    found = features_by(library, folder, network.images)
    if found is None:
        by_us = _by_ourselves(network, read(), rules)
        return Proof(f"swav_jax ({library} is not installed)", by_us.features)
    return Proof(library, found)


def _by_ourselves(network: Network, tensors: Tensors, rules: Rules = ()) -> Proof:
    """Features from tensors that were read back."""
    names = [name for name in _all_tensors(network) if not name.startswith("fc.")]
    known = renamed(names, rules)
    variables = from_torch({old: tensors[new] for old, new in known.items() if new in tensors})
    return Proof("swav_jax", features_of(dataclasses.replace(network, variables=variables)))


def _write_safetensors(path: Path, tensors: Tensors, metadata: dict[str, str]) -> None:
    if not find_spec("safetensors"):
        raise ConfigError("this --format needs the package safetensors: pip install safetensors")
    from safetensors.numpy import save_file

    whole = {name: np.array(value, order="C") for name, value in tensors.items()}
    save_file(whole, path, metadata)


def _read_safetensors(path: Path) -> Tensors:
    from safetensors.numpy import load_file

    return load_file(path)


def _write_json(path: Path, contents: dict[str, Any]) -> None:
    path.write_text(json.dumps(contents, indent=2) + "\n")


def _model_card(network: Network) -> str:
    prep = network.preprocessing
    return f"""---
library_name: transformers
pipeline_tag: image-feature-extraction
tags: [swav_jax]
---

# {network.arch}

{network.about}

```python
from transformers import AutoImageProcessor, ResNetModel

processor, model = AutoImageProcessor.from_pretrained("."), ResNetModel.from_pretrained(".")
features = model(**processor(image, return_tensors="pt")).pooler_output.flatten(1)
```

Images: shorter side {prep["resize"]}, centre crop {prep["crop"]}, {prep["interpolation"]}, mean
{list(prep["mean"])}, std {list(prep["std"])}.
"""
