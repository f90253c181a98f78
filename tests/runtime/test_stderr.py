import os
import re
import signal
import subprocess
import sys

from images import save_damaged, smooth
from processes import ROOT, SMALL

OURS = re.compile(r"[IWE]\d{4} [\d:.]+ \d+ \w+\.py:\d+\] |  \w")
MIXED = """
import os, sys
from absl import logging
from swav_jax.runtime.stderr import without_noise

without_noise()
os.write(2, b"Corrupt JPEG data: premature end of data segment\\n")
os.write(2, b"W0000 00:00:17.1 14051 png_io.cc:96] PNG warning: iCCP: too short\\n")
os.write(2, b"W0000 00:00:17.1 14051 rendezvous.cc:4] aborting: x\\n\\t [[{{node Decode}}]]\\n")
os.write(2, b"F0000 00:00:17.1 14051 client.cc:96] Check failed: the device is lost\\n")
print("by Python", file=sys.stderr)
logging.warning("by absl")
os.write(2, b"the end of a line")
os.abort()
"""
# The tests' small network, and what they have compiled.
MAIN = """
import runpy, sys
sys.path[:0] = ["tests", "."]
import tiny
tiny.compile_fast()
runpy.run_path("main.py", run_name="__main__")
"""


def stderr_of(code, *flags):
    """What a process writes to its stderr, and its exit code."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    ended = subprocess.run(
        [sys.executable, "-c", code, *flags],
        cwd=ROOT,
        env=environment | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return ended.stderr, ended.returncode


def test_the_last_words_of_a_crash_pass():
    stderr, code = stderr_of(MIXED)
    assert code == -signal.SIGABRT
    assert sorted(stderr.splitlines()) == [
        "F0000 00:00:17.1 14051 client.cc:96] Check failed: the device is lost",
        "WARNING:absl:by absl",
        "by Python",
        "the end of a line",
    ]


def test_damaged_images_are_named_in_our_lines_and_in_no_others(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    save_damaged(folder)
    for name in ("cut.jpg", "cut.png", "cut.tif"):
        smooth(1, 60, 60).save(folder / name)
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: 2 * len(whole) // 3])
    for n, kind in enumerate(("tiff_deflate", "jpeg", "tiff_lzw")):
        path = folder / f"{kind}.tif"
        smooth(n, 60, 60).save(path, compression=kind)
        damaged = bytearray(path.read_bytes())
        middle = len(damaged) // 2
        damaged[middle : middle + 20] = bytes(byte ^ 0x5A for byte in damaged[middle : middle + 20])
        path.write_bytes(damaged)
    smooth(7, 60, 60).save(folder / "profile.png", icc_profile=b"garbage" * 30)
    settings = {"name": "folder", "data_dir": folder, "max_bad_fraction": 0.9, "batch_size": 16}
    stderr, code = stderr_of(
        MAIN,
        *SMALL,
        f"--workdir={tmp_path / 'run'}",
        *(f"--config.data.{key}={value}" for key, value in settings.items()),
        "--config.train.steps=3",
        "--config.train.epochs=9",
        "--config.method.queue_length=0",
    )
    assert code == 0, stderr
    assert "cut.jpg cannot be read (damaged" in stderr
    assert [line for line in stderr.splitlines() if not OURS.match(line)] == []
