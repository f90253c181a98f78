"""Training in processes of their own, which tests may kill, and what those processes leave."""

import json
import multiprocessing
import os
import runpy
import sys
import time
from pathlib import Path

import jax
import numpy as np

from swav_jax.checkpoints.read import load_variables

ROOT = Path(__file__).parent.parent
# The quickstart with less to compile: a smaller network, smaller crops, no blur and no jitter.
SMALLER = (
    "--config.data.batch_size=64",
    "--config.data.test=",
    "--config.augment.jitter=0.0",
    "--config.augment.blur=0.0",
    "--config.model.arch=resnet10_tiny",
    "--config.model.head_hidden=16",
    "--config.model.dim=8",
    "--config.optim.warmup_epochs=0.0",
    "--config.train.log_every_steps=1",
)
SMALL = (
    "--config=configs/quickstart.py",
    *SMALLER,
    "--config.data.crops=((2, 16, 0.8, 1.0), (2, 8, 0.6, 1.0))",
    "--config.method.freeze_prototypes_steps=0",
    "--config.method.queue_length=128",
    "--config.method.queue_start_epoch=0",
)


# Children are forked from a process that has done the imports, which would take each of them 7 s.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["swav_jax.tasks"])


def launch(workdir, *flags, devices=1, x64=False):
    """Starts `main.py` with the flags; what it says is appended to `workdir.log`."""
    process = CHILDREN.Process(target=run_main, args=(workdir, flags, devices, x64))
    process.start()
    return process


def run_main(workdir, flags, devices, x64):
    """What a user's `python main.py` does after its imports."""
    with open(f"{workdir}.log", "a") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    os.chdir(ROOT)
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", x64)
    jax.config.update("jax_disable_most_optimizations", True)  # most of the time is compilation
    sys.argv = ["main.py", f"--workdir={workdir}", *flags]
    sys.path.insert(0, str(ROOT))
    runpy.run_path("main.py", run_name="__main__")


def succeed(workdir, process, code=0, timeout=300):
    """Waits for a process and shows its log if it does not end as it should."""
    process.join(timeout)
    found = process.exitcode
    process.kill()
    assert found == code, Path(f"{workdir}.log").read_text()[-3000:]


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


def saved(workdir, branches=("step", "params", "batch_stats", "opt_state", "extra")):
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
