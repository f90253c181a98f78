"""SwAV on CIFAR-10 for some minutes: k-NN by epoch, images a second."""

import argparse
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from configs import swav_cifar10
from swav_jax import train
from swav_jax.data.sources import open_source
from swav_jax.runtime.xla import leave_out_missing_tpus
from swav_jax.workdir import read_metrics, read_results

TRIAL = 40  # steps, after which the speed is known
EVALUATIONS = 5
KEPT = 0.8  # of the time, for steps; the rest is for evaluations


def measure(flags: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Trains as many epochs as fit into the minutes, as a trial tells, and follows the curve."""
    begin = time.monotonic()
    leave_out_missing_tpus()
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        if flags.small:
            flags.images = top / "images.npz"
            draw_images(flags.images)
        if not flags.images:
            yield {"knn_top1": None, "why": "--images names no file of CIFAR-10"}
            return
        config = configuration(flags.images, flags.small)
        images = open_source("npz", str(flags.images), "train").size
        steps_per_epoch = images // config.data.batch_size

        trial = config.copy_and_resolve_references()
        trial.train.steps, trial.data.test = 2 if flags.small else TRIAL, ""
        trial_begin = time.monotonic()
        train.pretrain(trial, top / "trial")
        spent, speed = time.monotonic() - trial_begin, images_per_second(top / "trial")
        compiling = spent - trial.train.steps * config.data.batch_size / speed
        left = min(flags.minutes * 60, flags.seconds) - (time.monotonic() - begin) - compiling
        seconds = steps_per_epoch * config.data.batch_size / speed
        config.train.epochs = 2 if flags.small else max(int(KEPT * left / seconds), 1)
        config.eval.knn_every_epochs = -(-config.train.epochs // EVALUATIONS)
        yield {"images": images, "epochs": config.train.epochs, "trial_images_per_second": speed}

        workdir = top / "run"
        with ThreadPoolExecutor(1) as pool:  # so that the curve is told while it grows
            training = pool.submit(train.pretrain, config, workdir)
            while wait([training], timeout=2).not_done:
                yield found(workdir, steps_per_epoch)
            training.result()
        yield found(workdir, steps_per_epoch)


def configuration(images: Path, small: bool) -> ConfigDict:
    """The config of full CIFAR-10, on images of a file."""
    config = swav_cifar10.get_config()
    config.data.name, config.data.data_dir = "npz", str(images)
    config.data.eval_resize = config.data.eval_crop = 0  # images as they are: all have one size
    config.train.log_every_epochs, config.train.log_every_steps = 1.0, 10
    config.checkpoint.every_epochs = 0
    if small:
        config.data.batch_size, config.data.crops = 16, ((2, 16, 0.3, 1.0), (2, 8, 0.1, 0.3))
        config.model.arch, config.model.head_hidden = "resnet10_tiny", 16
        config.model.dtype, config.model.prototypes = "float32", 12
        config.augment.jitter = 0.0
        config.train.log_every_steps = 1
    return config


def draw_images(path: Path) -> None:
    """A file like CIFAR-10's: noise around the grey level of the class."""
    rng, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 48), ("test", 24)):
        labels = np.arange(count) % 3
        noise = rng.integers(80, size=(count, 16, 16, 3))
        arrays[split] = (80 * labels[:, None, None, None] + noise).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    np.savez(path, **arrays)


def images_per_second(workdir: Path) -> float | None:
    """Median of what the run has logged; None before its first line."""
    lines = read_metrics(workdir)
    speeds = [line["images_per_second"] for line in lines if "images_per_second" in line]
    return float(np.median(speeds)) if speeds else None


def found(workdir: Path, steps_per_epoch: int) -> dict[str, Any]:
    """Speed, and k-NN by epoch, epoch 0 being the random network."""
    lines = [line for line in read_metrics(workdir) if "knn_top1" in line]
    curve = {0: read_results(workdir).get("knn", {}).get("random_init_top1")}
    curve |= {line["step"] // steps_per_epoch: line["knn_top1"] for line in lines}
    return {
        "images_per_second": images_per_second(workdir),
        "knn_by_epoch": curve,
        "knn_top1": curve[max(curve)] if lines else None,  # not the random network's
    }
