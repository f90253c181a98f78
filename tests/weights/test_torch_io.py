import argparse
import pickle
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax.weights.torch_io import WeightsError, read_tensors

RAN = []


class Runs:
    """Unpickling it calls a function."""

    def __reduce__(self):
        return RAN.append, ("unpickled",)


def test_nested_dicts_of_both_formats_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    contents = {
        "epoch": 3,
        "state_dict": {"conv1.weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(7)},
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{}]},
    }
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pth.tar"
        torch.save(contents, path, _use_new_zipfile_serialization=zipped)
        found = read_tensors(path)
        assert list(found) == [
            "state_dict.conv1.weight",
            "state_dict.count",
            "optimizer.state.0.momentum_buffer",
        ]
        np.testing.assert_array_equal(found["state_dict.conv1.weight"], [[0, 1, 2], [3, 4, 5]])


def test_half_and_double_precision_become_float32(tmp_path):
    torch = pytest.importorskip("torch")
    kinds = (torch.float16, torch.bfloat16, torch.float64)
    torch.save({str(kind): torch.tensor([1.5], dtype=kind) for kind in kinds}, tmp_path / "x.pth")
    for value in read_tensors(tmp_path / "x.pth").values():
        assert value.dtype == np.float32 and value == 1.5


def test_safetensors_need_no_torch(tmp_path, monkeypatch):
    files = pytest.importorskip("safetensors.numpy")
    monkeypatch.setitem(sys.modules, "torch", None)
    arrays = {"b": np.array([1.5], jnp.bfloat16), "h": np.array([1.5], "e"), "n": np.array([7])}
    files.save_file(arrays, tmp_path / "x.safetensors")
    found = read_tensors(tmp_path / "x.safetensors")
    assert [value.dtype for value in found.values()] == ["float32", "float32", "int64"]
    assert [value.item() for value in found.values()] == [1.5, 1.5, 7]


def refused(path):
    with pytest.raises(WeightsError) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_is_run(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    RAN.clear()
    path = tmp_path / "x.pth"
    torch.save({"state_dict": Runs()}, path, _use_new_zipfile_serialization=zipped)
    assert "may run code, so nothing was read" in refused(path)
    path.write_bytes(pickle.dumps(Runs(), protocol=2))
    assert "may run code" in refused(path)
    path.write_bytes(pickle.dumps(Runs()))
    refused(path)
    assert not RAN


def test_other_objects_are_named(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    message = refused(tmp_path / "x.pth")
    assert "holds torch.nn.modules.linear.Linear" in message
    assert "torch.save(model.state_dict()" in message


@pytest.mark.parametrize("zipped", [True, False])
def test_plain_data_beside_the_weights_does_no_harm(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    data = {"args": argparse.Namespace(lr=1), "best": np.float64(1), "epoch": np.int64(3)}
    path = tmp_path / "x.pth"
    torch.save(data | {"w": torch.ones(1)}, path, _use_new_zipfile_serialization=zipped)
    assert read_tensors(path) == {"w": 1}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.99])
def test_a_truncated_file_of_torch_is_damaged(tmp_path, zipped, share):
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pth"
    torch.save({"w": torch.ones(1000)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "is damaged, cut short, or not a file of weights" in refused(path)


def test_a_truncated_file_of_safetensors_is_damaged(tmp_path):
    files = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    files.save_file({"w": np.ones(1000, "f")}, path)
    whole = path.read_bytes()
    for share in (0.001, 0.02, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        assert "is damaged or no safetensors file" in refused(path)


@pytest.mark.parametrize("text", ["<!DOCTYPE html><html>not found</html>", "{}", "words"])
def test_a_text_is_no_file_of_weights(tmp_path, text):
    pytest.importorskip("torch")
    (tmp_path / "x.pth").write_text(text)
    assert "not a file of weights" in refused(tmp_path / "x.pth")


def test_empty_missing_and_folder(tmp_path):
    (tmp_path / "x.pth").touch()
    assert "is empty" in refused(tmp_path / "x.pth")
    assert f"is a folder: name a file in it, such as {tmp_path / 'x.pth'}" in refused(tmp_path)
    (tmp_path / "folder").mkdir()
    assert "is a folder without weights" in refused(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_tensors(tmp_path / "y.pth")


@pytest.mark.parametrize(
    ("name", "package"), [("x.pth", "torch"), ("x.safetensors", "safetensors")]
)
def test_a_missing_package_is_one_line_with_the_command(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_text("anything")
    with pytest.raises(WeightsError, match=f"needs the package {package}: pip install {package}$"):
        read_tensors(tmp_path / name)
