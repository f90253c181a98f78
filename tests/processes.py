"""Training in processes of their own, which tests may kill, and what those processes leave."""

import json
import multiprocessing
import os
import runpy
import socket
import sys
import time
import traceback
from pathlib import Path

import jax
import numpy as np
import tiny

from swav_jax import train
from swav_jax.checkpoints.read import load_variables
from swav_jax.runtime import xla
from swav_jax.runtime.processes import fail, join, leave

ROOT = Path(__file__).parent.parent
# The quickstarts with less to compile: a smaller network, smaller crops, no blur and no jitter.
SMALLER = {
    "data.batch_size": 64,
    "data.test": "",
    "data.eval_resize": 16,
    "data.eval_crop": 16,
    "augment.jitter": 0.0,
    "augment.blur": 0.0,
    "model.arch": tiny.ARCH,
    "model.head_hidden": 16,
    "model.dim": 8,
    "optim.warmup_epochs": 0.0,
    "train.log_every_steps": 1,
}
SWAV = SMALLER | {
    "data.crops": ((2, 16, 0.8, 1.0), (2, 8, 0.6, 1.0)),
    "model.stem": "strided",
    "method.freeze_prototypes_steps": 0,
    "method.queue_length": 128,
    "method.queue_start_epoch": 0,
}
SMALL = ("--config=configs/quickstart.py", *(f"--config.{k}={v}" for k, v in SWAV.items()))
STATE = ("step", "params", "batch_stats", "opt_state", "extra")  # branches of a checkpoint

# Children are forked from a process that has done the imports, which would take each of them 7 s.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(
    ["processes", "swav_jax.train", "swav_jax.tasks.knn", "sklearn.datasets", "matplotlib.figure"]
)


def launch(workdir, *flags, devices=1):
    """Starts `main.py` with the flags; what it says is appended to `workdir.log`."""
    return start(run_main, workdir, flags, devices)


def start(function, *arguments):
    process = CHILDREN.Process(target=function, args=arguments)
    process.start()
    return process


def run_main(workdir, flags, devices):
    """What a user's `python main.py` does after its imports."""
    prepare(workdir, devices)
    sys.argv = ["main.py", f"--workdir={workdir}", *flags]
    sys.path.insert(0, str(ROOT))
    runpy.run_path("main.py", run_name="__main__")


def prepare(workdir, devices):
    """Logs to a file, and computes as the tests do, on so many devices."""
    with open(f"{workdir}.log", "a") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    os.chdir(ROOT)
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    jax.config.update("jax_platforms", "cpu")
    tiny.compile_fast()


def launch_two(workdir, *flags, devices=1, only_second=()):
    """Starts `main.py` with the flags as two processes of so many devices each."""
    together = (f"--coordinator={free_address()}", "--processes=2")
    return [
        launch(workdir, *flags, *together, f"--process={i}", *own, devices=devices)
        for i, own in enumerate(((), only_second))
    ]


def free_address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def train_by_one_and_by_two(folder, configs, *, alone, each):
    """Trains each configuration by one process, and by two together.

    The runs follow each other in the same three processes, which saves most of the time.

    Args:
      folder: for the workdirs, `alone/<name>` and `together/<name>`.
      configs: by name.
      alone: devices of the one process.
      each: devices of each of the two.
    """
    address = free_address()
    for name, devices, places in (
        ("alone", alone, [()]),
        ("together", each, [(address, 2, 0), (address, 2, 1)]),
    ):
        (folder / name).mkdir()
        part = folder / name, configs, devices
        succeed(folder / name, *[start(run_in_turn, *part, place) for place in places])


def run_in_turn(folder, configs, devices, place):
    """One process's part of `train_by_one_and_by_two`; ends as `main.py` does."""
    prepare(folder, devices)
    xla.start()
    try:
        join(*place)
        for name, config in configs.items():
            jax.config.update("jax_enable_x64", config.model.dtype == "float64")
            train.pretrain(config, folder / name)
    except Exception:
        fail(traceback.format_exc())
        sys.exit(1)
    leave()


def succeed(workdir, *processes, code=0, timeout=300):
    """Waits for processes and shows their log if they do not end as they should."""
    for process in processes:
        process.join(timeout)
    found = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    said = Path(f"{workdir}.log").read_text()
    crash = said.find("Fatal Python error")  # what follows it says where, in front of long lists
    assert found == [code] * len(processes), said[crash:][:3000] if crash >= 0 else said[-3000:]


def kill(process):
    """SIGKILL, and the end of the process."""
    process.kill()
    process.join()


def wait_until(condition, process, timeout=300):
    """Whether the condition came true before the process ended."""
    end = time.monotonic() + timeout
    while time.monotonic() < end and process.is_alive():
        if condition():
            return True
        time.sleep(0.002)
    return condition()


def metrics(workdir):
    """The lines of metrics.jsonl without what the clock decides."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    timing = ("images_per_second", "data_wait_share", "_seconds")
    return [{k: v for k, v in line.items() if not k.endswith(timing)} for line in lines]


def saved(workdir, branches=STATE):
    """Every leaf of the newest checkpoint, by name."""
    tree, _ = load_variables(workdir, branches)
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def assert_same_state(a, b):
    """Equal to the bit."""
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
