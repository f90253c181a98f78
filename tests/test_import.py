"""What swav_jax does to the program that imports it."""

import os
import subprocess
import sys

IMPORT = """
import os, sys
import jax  # sets variables of its own

def program():
    return dict(os.environ), [os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)]

before = program()
import swav_jax
assert program() == before
assert not {"tensorflow", "keras", "orbax", "tensorstore", "sklearn"} & sys.modules.keys()
"""

# No GPU can be had here: this is what TensorFlow answers when it should let go of one in use.
BATCHES_BESIDE_TENSORFLOW_AT_WORK = """
import os
import jax
import tensorflow as tf

def refuse(devices, kind):
    raise RuntimeError("Visible devices cannot be modified after being initialized")

assert tf.constant(1) + 1 == 2
tf.config.set_visible_devices = refuse
before = dict(os.environ)
from swav_jax.data.batches import train_batches
from swav_jax.data.sources import open_source
batch = next(train_batches(open_source("digits", "", "train"), ((1, 8, 0.3, 1.0),), 4, seed=0))
assert batch.crops[0].shape == (4, 1, 8, 8, 3)
assert dict(os.environ) == before
"""

A_RUN_ON_DIGITS = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import tiny
from swav_jax import train
from swav_jax.tasks.knn import knn_task

tiny.compile_fast()
config, workdir = tiny.tiny_swav(), pathlib.Path(sys.argv[2])
config.data.test = "test"
config.data.eval_resize = config.data.eval_crop = 0
config.train.steps = 2
train.pretrain(config, workdir)
knn_task(config, workdir)
assert (workdir / "results.json").exists()
assert "tensorflow" not in sys.modules
"""


def run(program, *arguments):
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_importing_touches_nothing_and_loads_what_it_needs():
    done = run(IMPORT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_batches_are_made_beside_a_tensorflow_at_work():
    done = run(BATCHES_BESIDE_TENSORFLOW_AT_WORK)
    assert done.returncode == 0, done.stderr


def test_digits_are_learnt_and_judged_without_tensorflow(tmp_path):
    done = run(A_RUN_ON_DIGITS, os.path.dirname(__file__), str(tmp_path))
    assert done.returncode == 0, done.stderr
