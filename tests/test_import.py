"""What swav_jax does to the program that imports it."""

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


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_importing_touches_nothing_and_loads_what_it_needs():
    done = run(IMPORT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_batches_are_made_beside_a_tensorflow_at_work():
    done = run(BATCHES_BESIDE_TENSORFLOW_AT_WORK)
    assert done.returncode == 0, done.stderr
