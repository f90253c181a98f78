"""A run that is stopped and goes on ends with the same bits, where operations are deterministic."""

import argparse
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
from ml_collections import ConfigDict

from configs import quickstart
from swav_jax import train
from swav_jax.checkpoints.read import find
from swav_jax.checkpoints.seal import read_seal
from swav_jax.monitor.watch import Watch
from swav_jax.runtime.interruption import INTERRUPTED
from swav_jax.runtime.xla import leave_out_missing_tpus


def measure(flags: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """How many arrays of the last state differ between a whole run and one in two halves."""
    leave_out_missing_tpus()
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)  # three trainings, one program
        yield from of_config(digits(flags.small))


def of_config(config: ConfigDict) -> Iterator[dict[str, Any]]:
    """The figures of a configuration, stopped after half of its steps."""
    steps = config.train.steps
    with tempfile.TemporaryDirectory() as folder:
        whole, halves = Path(folder) / "whole", Path(folder) / "halves"
        train.pretrain(config, whole)
        stopped_after(config, halves, steps // 2)
        yield {"steps": steps, "stopped_after": int(find(halves).name)}
        train.pretrain(config, halves)
        ours, theirs = digests(whole), digests(halves)
    different = sorted(name for name in ours if ours[name] != theirs.get(name))
    equal = not different and ours.keys() == theirs.keys()
    yield {"arrays": len(ours), "different": different[:10], "equal": equal}


def digits(small: bool) -> ConfigDict:
    """The quickstart, cut short; with a network that compiles within seconds if it is small."""
    config = quickstart.get_config()
    config.train.steps = 40
    config.method.freeze_prototypes_epochs = 0.0
    config.data.test = ""
    config.checkpoint.every_epochs = 0
    if small:
        config.data.crops = ((2, 32, 0.8, 1.0), (2, 16, 0.6, 1.0))
        config.model.arch, config.model.head_hidden = "resnet10_tiny", 16
        config.augment.jitter = 0.0
    else:
        config.model.dtype = "bfloat16"
    return config


def stopped_after(config: ConfigDict, workdir: Path, steps: int) -> None:
    """Trains until a SIGTERM in a step, which saves the state."""
    after = Watch.after

    def interrupted(watch: Watch, step: int, *rest: Any) -> None:
        after(watch, step, *rest)
        if step + 1 == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    with mock.patch.object(Watch, "after", interrupted):
        try:
            train.pretrain(config, workdir)
        except SystemExit as ended:
            if ended.code == INTERRUPTED:
                return
    raise RuntimeError(f"SIGTERM in step {steps} did not stop the run")


def digests(workdir: Path) -> dict[str, int]:
    """The digest of each array of the newest checkpoint."""
    return {name: leaf["digest"] for name, leaf in read_seal(find(workdir))["leaves"].items()}
