import json

import numpy as np
import pytest

from swav_jax.weights.preprocessing import read_preprocessing
from swav_jax.weights.torch_io import WeightsError

MEAN, STD = [0.4, 0.5, 0.6], [0.1, 0.2, 0.3]
OURS = {"mean": MEAN, "std": STD, "resize": 73, "crop": 64, "interpolation": "bilinear"}
FILES = {
    "preprocessing.json": OURS,
    "preprocessor_config.json": {
        "size": {"shortest_edge": 64},
        "crop_pct": 0.875,
        "image_mean": MEAN,
        "image_std": STD,
        "resample": 2,
    },
    "config.json": {
        "architecture": "resnet18",
        "pretrained_cfg": {
            "input_size": [3, 64, 64],
            "crop_pct": 0.875,
            "interpolation": "bilinear",
            "mean": MEAN,
            "std": STD,
        },
    },
}
EXPECTED = OURS | {"mean": tuple(MEAN), "std": tuple(STD)}


@pytest.mark.parametrize("name", FILES)
def test_files_beside_the_weights(tmp_path, name):
    (tmp_path / name).write_text(json.dumps(FILES[name]))
    assert read_preprocessing(tmp_path / "model.bin") == (EXPECTED, tmp_path / name)


def test_a_processor_with_a_centre_crop(tmp_path):
    said = {"size": 80, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}}
    said |= {"image_mean": MEAN, "image_std": STD, "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    found, _ = read_preprocessing(tmp_path / "model.bin")
    assert found == EXPECTED | {"resize": 80, "interpolation": "bicubic"}


def read(tmp_path, name, **changes):
    said = FILES[name]
    if name == "config.json":
        said = said | {"pretrained_cfg": said["pretrained_cfg"] | changes}
    (tmp_path / name).write_text(json.dumps(said | changes))
    found, _ = read_preprocessing(tmp_path / "model.bin")
    return found["resize"], found["crop"]


def test_sizes_are_rounded_down_as_their_libraries_do(tmp_path):
    """`int(shortest_edge / crop_pct)` of transformers, `floor(img_size / crop_pct)` of timm."""
    sizes = {"crop_pct": 0.95, "input_size": [3, 224, 224], "size": {"shortest_edge": 224}}
    for name in ("preprocessor_config.json", "config.json"):
        (tmp_path / name).mkdir()
        assert read(tmp_path / name, name, **sizes) == (235, 224)
    ours = read(tmp_path, "preprocessing.json", resize=256.0, crop=224.0)
    assert ours == (256, 224) and {type(size) for size in ours} == {int}


@pytest.mark.parametrize(
    ("name", "changes", "sizes"),
    [
        ("preprocessor_config.json", {"size": {"shortest_edge": 384}}, (384, 384)),
        ("config.json", {"crop_mode": "squash", "crop_pct": 1.0}, (64, 64)),
    ],
)
def test_images_that_were_warped_are_said(tmp_path, name, changes, sizes, caplog):
    assert read(tmp_path, name, **changes) == sizes
    assert "warped to a square" in caplog.text


def test_in_the_weights_own_file(tmp_path):
    files = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    files.save_file({"x": np.ones(1)}, path, {"preprocessing": json.dumps(OURS)})
    assert read_preprocessing(path) == (EXPECTED, path)


def test_where_nothing_is_said(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    assert read_preprocessing(tmp_path / "model.bin") is None


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "preprocessing.json").write_text('{"mean": [0.5')
    with pytest.raises(WeightsError, match=r"preprocessing\.json does not say"):
        read_preprocessing(tmp_path / "model.bin")
