"""Training in processes of their own, which tests may kill, and what those processes leave."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from swav_jax.checkpoint import load_variables

ROOT = Path(__file__).parent.parent
# The quickstart with less to compile: a smaller network, smaller crops, no blur and no jitter.
SMALL = (
    "--config=configs/quickstart.py",
    "--config.data.batch_size=64",
    "--config.data.crops=((2, 16, 0.8, 1.0), (2, 8, 0.6, 1.0))",
    "--config.data.test=",
    "--config.augment.jitter=0.0",
    "--config.augment.blur=0.0",
    "--config.model.arch=resnet10_tiny",
    "--config.model.head_hidden=16",
    "--config.model.dim=8",
    "--config.method.freeze_prototypes_steps=0",
    "--config.method.queue_length=128",
    "--config.method.queue_start_epoch=0",
    "--config.train.log_every_steps=1",
    "--config.optim.warmup_epochs=0.0",
)


def launch(workdir, *flags, devices=1, x64=False):
    """Starts `main.py` with the flags; what it says is appended to `workdir.log`."""
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": str(int(x64)),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # most of their time is compilation
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    with open(f"{workdir}.log", "a") as log:
        return subprocess.Popen(
            [sys.executable, "main.py", f"--workdir={workdir}", *flags],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def succeed(workdir, process, code=0, timeout=300):
    """Waits for a process and shows its log if it does not end as it should."""
    try:
        found = process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        found = "no end"
    assert found == code, Path(f"{workdir}.log").read_text()[-3000:]


def kill(process):
    """SIGKILL, and the end of the process."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def wait_until(condition, process, timeout=300):
    """Whether the condition came true before the process ended."""
    end = time.monotonic() + timeout
    while time.monotonic() < end and process.poll() is None:
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
