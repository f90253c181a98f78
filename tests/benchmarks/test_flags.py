"""Wrong flags of benchmarks: one line that names the flag, before any work."""

import os

import pytest

from benchmarks import data, kmeans, knn, scaling, step, systems
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import compiled, pack
from swav_jax.data.sources.source import DataError

WRONG = {
    "--arch=foo": (step, "--arch: invalid choice: 'foo'"),
    "--crops=2x24,2": (step, "--crops: '2x24,2' is not COUNTxPIXELS"),
    "--crops=2x0 --data_dir=none": (data, "--crops: '0' is no whole number of at least 1"),
    "--data_dir=none": (data, "error: there is no folder 'none'"),
    "--k=0": (knn, "--k"),
    "--k=20 --rows=10": (knn, "--k=20 is more than --rows=10"),
    "--rounds=-1": (kmeans, "--rounds"),
    "--clusters=20 --rows=10": (kmeans, "--clusters=20 is more than --rows=10"),
    "--devices=1,x": (scaling, "--devices"),
    "--devices=1,3000": (scaling, "--devices must be from 1 to 256"),
    "--devices=1,2 --model=1,2,3": (scaling, "--model has 3 numbers and --devices 2"),
    "--config=none.py": (scaling, "there is no file --config=none.py"),
    "--only=swav,foo": (systems, "--only has foo; known are swav"),
    "--parts=step,foo": (gpu, "--parts has foo; known are machine"),
    "--minutes=0": (gpu, "--minutes=0 must be above 0"),
    "--images=none.npz": (gpu, "--images=none.npz is no file that --pack writes"),
    "--batch=0 --remat=none": (compiled, "--batch: '0' is no whole number"),
    "--out=/dev/null/gpu.json": (gpu, "--out=/dev/null/gpu.json cannot be written"),
}


@pytest.mark.parametrize("given", WRONG)
def test_a_wrong_flag_is_named_and_nothing_is_done(monkeypatch, tmp_path, capsys, given):
    module, message = WRONG[given]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["benchmark", *given.split()])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert message in f"{end.value} {capsys.readouterr().err}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", [step, kmeans, knn])
def test_a_missing_peer_is_named_before_any_work(monkeypatch, module):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["benchmark", "--peer"])
    with pytest.raises(SystemExit, match=r"peer is missing: pip install -e '\.\[peers\]'"):
        module.main()


def test_a_missing_compiler_for_cuda_is_named(monkeypatch):
    def missing(*args, **kwargs):
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr(compiled.topologies, "get_topology_desc", missing)
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))  # is given back
    monkeypatch.setattr("sys.argv", ["benchmark"])
    with pytest.raises(SystemExit, match=r"XLA for CUDA is missing: pip install"):
        compiled.main()


def test_an_output_that_is_a_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["benchmark", f"--out={tmp_path}"])
    with pytest.raises(SystemExit, match="cannot be written"):
        gpu.main()


def test_images_that_are_not_prepared_are_one_line(monkeypatch):
    def missing(*args):
        raise DataError("cifar10 is not prepared")

    monkeypatch.setattr(pack, "open_source", missing)
    monkeypatch.setattr("sys.argv", ["benchmark", "--pack", "none", "cifar.npz"])
    with pytest.raises(SystemExit, match="error: cifar10 is not prepared"):
        gpu.main()
