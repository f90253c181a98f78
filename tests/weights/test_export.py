"""What each format holds is what the library that it is for computes, or its own names say."""

import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import jax
import numpy as np
import pytest
from images import smooth

from swav_jax.config import ConfigError
from swav_jax.data.crops import central_crop
from swav_jax.models.backbones import backbone
from swav_jax.models.resnet import ARCHS
from swav_jax.weights.export import export, features_of
from swav_jax.weights.formats import recognise
from swav_jax.weights.network import Network
from swav_jax.weights.preprocessing import read_preprocessing
from swav_jax.weights.torch_names import from_torch, to_torch

PREPROCESSING = {
    "mean": [0.485, 0.456, 0.406],
    "std": [0.228, 0.224, 0.225],
    "resize": 74,
    "crop": 64,
    "interpolation": "bilinear",
}
# From 384 pixels on ConvNeXt's image processor does not crop; 387 / (387 / 452) is less than 452.
LARGE = PREPROCESSING | {"resize": 452, "crop": 387}


def network(arch="resnet18", stem="imagenet", size=64, seed=0):
    """A network with random weights and running statistics, as after some training."""
    model = backbone(arch, stem=stem)
    rng = np.random.default_rng(seed)
    images = np.random.default_rng(size).normal(size=(3, size, size, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            fan_in = np.prod(leaf.shape[:-1])
            return (rng.normal(size=leaf.shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        offset, spread = {"scale": (1, 0.1), "var": (1, 0.2), "bias": (0, 0.1), "mean": (0, 0.1)}[
            name
        ]
        return np.abs(offset + spread * rng.normal(size=leaf.shape)).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    head = {"projection_head": {"kernel": np.eye(8, 4, dtype=np.float32), "bias": np.ones(4, "f")}}
    prototypes = {"prototypes0": np.ones((5, 4), np.float32)}
    return Network(
        arch=arch,
        stem=stem,
        backbone=model,
        variables={
            "params": {
                "backbone": variables["params"],
                "head": head,
                "prototypes": prototypes,
            },
            "batch_stats": {"backbone": variables["batch_stats"]},
        },
        preprocessing=PREPROCESSING,
        images=images,
        about="k-NN 76.5",
    )


def with_classifier(of):
    rng = np.random.default_rng(0)
    width = features_of(of).shape[1]
    draw = {"kernel": rng.normal(size=(width, 7)), "bias": rng.normal(size=7)}
    classifier = {name: value.astype(np.float32) for name, value in draw.items()}
    params = of.variables["params"] | {"classifier": classifier}
    return replace(of, variables=of.variables | {"params": params})


def agreement(proof):
    return float(re.search(r"difference (\S+) of", proof)[1])


@pytest.mark.parametrize(
    ("name", "arch", "classes"),
    [
        ("torchvision", "resnet18", 0),
        ("torchvision", "resnet18", 7),
        ("timm", "resnet50", 7),
        ("huggingface", "resnet50", 0),
        ("huggingface", "resnet10_tiny", 0),
    ],
)
def test_libraries_compute_the_same_features(tmp_path, name, arch, classes):
    library = {"huggingface": "transformers"}.get(name, name)
    if not find_spec("torch") or not find_spec(library):  # imported here, it would crash
        pytest.skip(f"{library} is not installed")
    of = network(arch)
    made, proof = export(with_classifier(of) if classes else of, name, tmp_path)
    assert f"by {library}" in proof and agreement(proof) < 1e-4
    assert made == tmp_path / name


@pytest.mark.parametrize(
    ("arch", "stem", "sizes"),
    [
        ("resnet18", "imagenet", (224, 96, 33)),
        ("resnet18_thin", "cifar", (24,)),
        ("resnet14", "strided", (33,)),
    ],
)
def test_onnx(tmp_path, arch, stem, sizes):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from swav_jax.weights.onnx_graph import run_onnx

    made, proof = export(network(arch, stem, sizes[0]), "onnx", tmp_path)
    assert "by ONNX" in proof and agreement(proof) < 1e-4
    for size in sizes[1:]:  # the same file takes images of any size
        other = network(arch, stem, size)
        wanted = features_of(other)
        found = run_onnx(made / "model.onnx", other.images)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(network(arch, stem).backbone_variables()))
    assert (made / "model.onnx").stat().st_size < 1.05 * weights


WRITES = """
import sys, pathlib, numpy as np
sys.path[:0] = "tests", "tests/weights"
from dataclasses import replace
from test_export import network, export, features_of
folder = pathlib.Path(sys.argv[1])
of = network("resnet10_tiny", "cifar", 16)
_, proof = export(of, "stablehlo", folder)
assert "difference 0 of" in proof, proof
images = np.concatenate([of.images, of.images[:2] * 2])  # another number of them
np.save(folder / "images.npy", images)
np.save(folder / "features.npy", features_of(replace(of, images=images)))
"""
READS = """
import sys, pathlib, jax, numpy as np
from jax import export
folder = pathlib.Path(sys.argv[1])
program = export.deserialize(bytearray((folder / "stablehlo" / "model.stablehlo").read_bytes()))
assert program.platforms == ("cpu", "cuda", "tpu")
found = jax.jit(program.call)(np.load(folder / "images.npy"))
np.testing.assert_array_equal(found, np.load(folder / "features.npy"))
assert "swav_jax" not in sys.modules
"""


def test_stablehlo_in_a_fresh_process_gives_the_same_bits(tmp_path):
    for program in (WRITES, READS):  # not here: eight devices share the cores otherwise
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        subprocess.run([sys.executable, "-c", program, tmp_path], check=True, env=environment)


def test_safetensors_hold_all_parts_to_the_bit(tmp_path):
    load_file = pytest.importorskip("safetensors.numpy").load_file
    of = network("resnet10_tiny", "cifar")
    made, _ = export(with_classifier(of), "safetensors", tmp_path)
    tensors = load_file(made / "model.safetensors")
    # A linear head beside a linear classifier is the head still.
    assert "projection_head.weight" in recognise(tensors).names
    assert tensors.pop("fc.weight").shape == (7, 64) and tensors.pop("fc.bias").shape == (7,)
    jax.tree.map(np.testing.assert_array_equal, from_torch(tensors), of.variables)
    assert json.loads((made / "preprocessing.json").read_text()) == PREPROCESSING


def test_detectron2_has_its_converters_names(tmp_path):
    of = network("resnet50")
    made, proof = export(of, "detectron2", tmp_path)
    assert agreement(proof) == 0
    contents = pickle.loads((made / "detectron2.pkl").read_bytes())
    assert contents["matching_heuristics"] is True and contents["__author__"]
    theirs, ours = contents["model"], to_torch(of.variables)
    for name, other in {
        "stem.conv1.weight": "conv1.weight",
        "stem.conv1.norm.running_var": "bn1.running_var",
        "res2.0.shortcut.weight": "layer1.0.downsample.0.weight",
        "res2.0.shortcut.norm.bias": "layer1.0.downsample.1.bias",
        "res4.5.conv3.norm.weight": "layer3.5.bn3.weight",
        "res5.2.conv2.weight": "layer4.2.conv2.weight",
    }.items():
        np.testing.assert_array_equal(theirs[name], ours[other])
    assert not [name for name in theirs if "fc" in name or "layer" in name or "bn" in name]
    settings = json.loads((made / "settings.json").read_text())
    assert settings["MODEL.RESNETS.DEPTH"] == 50
    assert settings["MODEL.RESNETS.RES2_OUT_CHANNELS"] == 256


def test_the_depth_is_that_of_the_name():
    for arch, settings in ARCHS.items():
        if number := re.fullmatch(r"resnet(\d+)(w\d)?", arch):
            depth = 2 + settings["block"].convolutions * sum(settings["stage_sizes"])
            assert depth == int(number[1])


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Folders of timm and transformers, whose configurations say how images are prepared."""
    pytest.importorskip("safetensors")
    monkeypatch.setattr("swav_jax.weights.export.features_by", lambda *_: None)  # not the question
    of = replace(network("resnet18"), preprocessing=LARGE)
    for name in ("huggingface", "timm"):
        made, _ = export(of, name, tmp_path)
        (made / "preprocessing.json").unlink()
    return tmp_path


def test_configurations_of_other_libraries_say_how_images_are_prepared(prepared):
    for name in ("huggingface", "timm"):
        found, file = read_preprocessing(prepared / name / "model.safetensors")
        assert file.name in ("preprocessor_config.json", "config.json")
        assert found == LARGE | {"mean": tuple(LARGE["mean"]), "std": tuple(LARGE["std"])}
    assert "k-NN 76.5" in (prepared / "huggingface" / "README.md").read_text()


PREPARES = """
import json, pathlib, sys
import numpy as np
from PIL import Image
from timm.data import create_transform, resolve_data_config
from transformers import AutoImageProcessor
folder = pathlib.Path(sys.argv[1])
image = Image.open(folder / "image.png")
processor = AutoImageProcessor.from_pretrained(folder / "huggingface")
pixels = processor(image, return_tensors="np")["pixel_values"][0]
np.save(folder / "huggingface.npy", pixels.transpose(1, 2, 0))
said = json.loads((folder / "timm" / "config.json").read_text())["pretrained_cfg"]
pixels = create_transform(**resolve_data_config({}, said))(image).numpy()
np.save(folder / "timm.npy", pixels.transpose(1, 2, 0))
"""


def test_other_libraries_prepare_images_as_we_do(prepared):
    if not all(map(find_spec, ("torch", "timm", "transformers"))):
        pytest.skip("timm or transformers is not installed")
    image = smooth(0, 500, 900)
    image.save(prepared / "image.png")
    subprocess.run([sys.executable, "-c", PREPARES, prepared], check=True)
    levels = np.asarray(central_crop(np.asarray(image), LARGE["resize"], LARGE["crop"]))
    ours = (levels / 255 - LARGE["mean"]) / LARGE["std"]
    for name in ("huggingface", "timm"):
        found = np.load(prepared / f"{name}.npy")
        np.testing.assert_allclose(found, ours, atol=0.03)  # a grey level is up to 0.018


@pytest.mark.parametrize(
    ("name", "arch", "stem", "complaint"),
    [
        ("torchvision", "resnet50w2", "imagenet", "torchvision has no resnet50w2"),
        ("timm", "resnet18", "cifar", "timm has no resnet18 with the stem cifar"),
        ("huggingface", "alexnet_sobel", "imagenet", "--format=safetensors"),
        (
            "onnx",
            "alexnet_sobel",
            "imagenet",
            "only ResNets are written, and this is alexnet_sobel",
        ),
    ],
)
def test_what_a_format_has_no_place_for_is_refused(tmp_path, name, arch, stem, complaint):
    of = network("resnet10_tiny", "cifar", 16)
    other = replace(of, arch=arch, stem=stem, backbone=backbone(arch, stem=stem))
    with pytest.raises(ConfigError, match=complaint):
        export(other, name, tmp_path)
    assert not (tmp_path / name).exists()


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("swav_jax.weights.export.find_spec", lambda _: None)
    of = network("resnet10_tiny", "cifar", 16)
    for name in ("safetensors", "onnx"):
        with pytest.raises(ConfigError, match=f"needs the package {name}"):
            export(of, name, tmp_path)


def test_earlier_exports_stay_and_a_wrong_one_does_not_count(tmp_path, monkeypatch):
    of = network("resnet10_tiny", "cifar", 16)
    for _ in range(3):
        made, _ = export(of, "stablehlo", tmp_path)
        (made / "notes.txt").touch()
    assert (tmp_path / "stablehlo.1" / "notes.txt").exists()
    assert (tmp_path / "stablehlo.2" / "model.stablehlo").exists()
    monkeypatch.setattr(
        "swav_jax.weights.export.run_stablehlo", lambda path, images: features_of(of) * 1.01
    )
    with pytest.raises(RuntimeError, match=r"differ by 0\.01"):
        export(of, "stablehlo", tmp_path)
    assert not (tmp_path / "stablehlo.4").exists()
