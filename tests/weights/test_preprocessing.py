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
