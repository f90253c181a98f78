"""`python -m benchmarks.gpu` at sizes that a CPU computes in seconds."""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jax.profiler import ProfileData
from tiny import ARCH, tiny_swav

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import parity, pytorch, resume, step
from benchmarks.gpu.cards import first_batch
from benchmarks.gpu.compiled import bytes_of_calls, kernels
from benchmarks.gpu.kernels import most_expensive

ROOT = Path(__file__).parents[2]
# As on a machine without TensorFlow, with the network of `tiny.py`.
WITHOUT_TENSORFLOW = """
import argparse, json, sys

sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None
sys.path[:0] = [".", "tests"]
import jax
from tiny import ARCH, compile_fast, tiny_swav
from swav_jax.runtime.xla import start

start()
compile_fast()
jax.config.update("jax_platforms", "cpu")
from benchmarks.gpu import cifar, parity, resume, step

config = tiny_swav()
config.train.steps = 6
config.eval.quality_images = 0
resumed = list(resume.of_config(config))
configuration = cifar.configuration

def with_tiny_network(*args):
    config = configuration(*args)
    config.model.arch = ARCH
    return config

cifar.configuration = with_tiny_network
flags = argparse.Namespace(small=True, minutes=1, seconds=60)
print(json.dumps({"resume": resumed, "cifar": list(cifar.measure(flags))}))
"""
PRINT_AND_WAIT = "print('{\"found\": 1}', flush=True); import time; time.sleep(60)"
PRINT_ALL_AND_WAIT = f"print('{json.dumps(gpu.COMPLETE)}', flush=True); {PRINT_AND_WAIT}"
PRINT_AND_FAIL = "print('{\"found\": 1}', flush=True); raise ValueError('no such thing')"


def run_part(code, seconds, log):
    figures = {}
    gpu.run_part([sys.executable, "-c", code], seconds, {}, figures.update, log)
    return figures


def test_a_part_that_takes_too_long_is_stopped_and_keeps_what_it_found(tmp_path):
    figures = run_part(PRINT_AND_WAIT, 2, tmp_path / "log")
    assert figures["found"] == 1
    assert figures["error"] == "stopped after 2 s"
    assert figures["seconds"] < 30


def test_a_part_that_is_complete_but_does_not_end_is_no_error(tmp_path):
    figures = run_part(PRINT_ALL_AND_WAIT, 2, tmp_path / "log")
    assert figures["found"] == 1
    assert "error" not in figures


def test_a_part_that_fails_says_why_and_keeps_what_it_found(tmp_path):
    figures = run_part(PRINT_AND_FAIL, 50, tmp_path / "log")
    assert figures["found"] == 1
    assert figures["error"] == "ValueError: no such thing"


def test_a_part_that_ends_early_is_not_complete(tmp_path):
    assert run_part("pass", 50, tmp_path / "log")["error"] == "ended before it was complete"


def test_missing_packages_are_named_before_any_part(monkeypatch):
    monkeypatch.setattr(gpu, "NEEDED", {"json": "json", "no.such": "no-such", "nor_this": "nor"})
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit, match=r"error: packages are missing: pip install no-such nor$"):
        gpu.main()


def test_the_file_has_a_part_that_works_after_one_that_fails(tmp_path, monkeypatch, capsys):
    out = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu, "PARTS", ({"parity": (0, {})}, {"machine": (50, {})}))
    argv = ["gpu", "--small", "--parts=parity,machine", f"--out={out}"]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit, match=r"failed: parity; .*gpu\.json says why"):
        gpu.main()
    found = json.loads(out.read_text())
    assert found == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["parity"]["error"] == "stopped after 0 s"
    assert found["machine"]["platform"] == "cpu"
    assert "error" not in found["machine"]


def test_step_runs_at_the_largest_batch_whose_program_fits(monkeypatch):
    config = step.small_config()
    config.model.arch = ARCH
    # As with CUDA, whose programs have no count; that of the CPU is read elsewhere.
    monkeypatch.setattr(step, "flops_of_image", lambda _: None)
    *_, unbounded = step.of_config(config, 8, None, 0)
    assert unbounded["flops_per_second"] is None and unbounded["share_of_peak"] is None
    (whole,) = unbounded["tried"]
    assert unbounded["batch"] == 8
    assert unbounded["images_per_second"] > 0
    assert math.isclose(unbounded["loss"], math.log(30), rel_tol=0.2)  # ln K: nothing is learnt yet
    first = next(step.of_config(config, 8, sum(whole["bytes"].values()), 0))
    assert [tried["batch"] for tried in first["tried"]] == [8, 4]
    assert first["batch"] == 4


def test_operations_of_an_image_are_counted_without_compiling():
    config = step.small_config()
    config.model.arch = ARCH
    once = step.flops_of_image(config)
    config.data.crops = ((4, 32, 0.14, 1.0), (4, 16, 0.05, 0.14))
    assert 1.8 < step.flops_of_image(config) / once <= 2  # LARC is of the parameters


def test_step_says_why_a_cpu_has_no_figures():
    (figures,) = step.measure(argparse.Namespace(small=False))
    assert figures["images_per_second"] is None
    assert "--small" in figures["why"]


@pytest.mark.parametrize(
    ("memory", "remat", "batch"),
    [(60 * 2**30, "none", 512), (60 * 2**30, "block", 1024), (16 * 2**30, "none", 128)],
)
def test_first_batch_is_a_power_of_two(memory, remat, batch):
    assert first_batch(memory, remat) == batch


@pytest.mark.filterwarnings("ignore:CUDA initialization")  # PyTorch looks for a driver
def test_pytorchs_step_trains_at_small_size():
    pytest.importorskip("torchvision")
    versions, figures = pytorch.measure(argparse.Namespace(small=True))
    assert versions["torch"]
    assert figures["images_per_second"] > 0
    assert math.isclose(figures["loss"], math.log(30), rel_tol=0.5)  # ln K: nothing is learnt yet


def test_parity_names_the_worst_array():
    theirs = np.array([3.0, 4.0])
    pairs = [("near", theirs + 0.001, theirs), ("far", theirs + np.array([0.0, 0.05]), theirs)]
    judged = parity.judged(iter(pairs), bound=0.001)
    assert judged["of"] == "far"
    assert math.isclose(judged["error"], 0.01)
    assert not judged["within"]
    assert parity.judged(iter(pairs), bound=0.06, absolute=True)["within"]


def test_kernels_are_counted_over_streams_and_profiles():
    profile = ProfileData.from_text_proto(
        """
        planes {
          name: "/device:GPU:0"
          event_metadata { key: 1 value { id: 1 name: "convolution" } }
          event_metadata { key: 2 value { id: 2 name: "fusion" } }
          event_metadata { key: 3 value { id: 3 name: "the whole step" } }
          lines { name: "Stream #13(Compute)"
                  events { metadata_id: 1 duration_ps: 5000 }
                  events { metadata_id: 2 duration_ps: 3000 } }
          lines { name: "Stream #14(Compute)" events { metadata_id: 2 duration_ps: 4000 } }
          lines { name: "XLA Modules" events { metadata_id: 3 duration_ps: 9000 } }
        }
        planes {
          name: "/host:CPU"
          event_metadata { key: 1 value { id: 1 name: "waiting" } }
          lines { name: "Stream" events { metadata_id: 1 duration_ps: 9000 } }
        }
        """
    )
    fusion, convolution = most_expensive([profile, profile])
    assert fusion["name"] == "fusion"
    assert fusion["calls"] == 4
    assert math.isclose(fusion["share"], 7 / 12)
    assert convolution["name"] == "convolution"
    assert most_expensive([]) is None


def test_runs_resume_and_learn_without_tensorflow():
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    stopped, end = found["resume"]
    assert stopped == {"steps": 6, "stopped_after": 3}
    assert end["equal"]
    assert end["arrays"] > 10
    first, *_, last = found["cifar"]
    assert first["epochs"] == 2
    assert set(last["knn_by_epoch"]) == {"0", "1", "2"}
    assert last["knn_top1"] > 60  # three grey levels are told apart; chance is 33
    assert last["images_per_second"] > 0


def test_equal_digests_are_needed_for_an_equal_resume(monkeypatch):
    digests = iter([{"a": 1, "b": 2}, {"a": 1, "b": 3}])
    monkeypatch.setattr(resume, "digests", lambda _: next(digests))
    monkeypatch.setattr(resume, "find", lambda _: Path("3"))
    monkeypatch.setattr(resume.train, "pretrain", lambda *_: None)
    monkeypatch.setattr(resume, "stopped_after", lambda *_: None)
    config = tiny_swav()
    config.train.steps = 2
    *_, end = resume.of_config(config)
    assert end == {"arrays": 2, "different": ["b"], "equal": False}


def test_calls_of_libraries_move_what_they_read_and_write():
    program = """HloModule step

%fused_add (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %add.1 = f32[8]{0} add(%p, %p)
}

ENTRY %main (x: bf16[2,4,4,8], k: bf16[8,3,3,8]) -> bf16[2,4,4,8] {
  %x = bf16[2,4,4,8]{3,2,1,0} parameter(0)
  %k = bf16[8,3,3,8]{3,2,1,0} parameter(1)
  %conv.1 = (bf16[2,4,4,8]{3,2,1,0}, u8[16]{0}) custom-call(%x, %k), custom_call_target="conv"
  %y.2 = bf16[2,4,4,8]{3,2,1,0} get-tuple-element(%conv.1), index=0
  %conv.2 = (bf16[2,4,4,8]{3,2,1,0}, u8[16]{0}) custom-call(%y.2, %k), custom_call_target="conv"
  ROOT %y.3 = bf16[2,4,4,8]{3,2,1,0} get-tuple-element(%conv.2), index=0
}
"""
    maps, kernel, space = 2 * 2 * 4 * 4 * 8, 2 * 8 * 3 * 3 * 8, 16
    assert bytes_of_calls(program) == 2 * (2 * maps + kernel + space)
    assert kernels(program) == {"conv": 2}
