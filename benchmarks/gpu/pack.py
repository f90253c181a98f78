"""CIFAR-10 of TensorFlow Datasets as one NumPy file, for a machine without TensorFlow."""

from pathlib import Path

import numpy as np

from swav_jax.data.passes import one_pass
from swav_jax.data.sources import open_source
from swav_jax.runtime.progress import progress


def pack(data_dir: str, path: Path) -> None:
    """Writes `train` and `test` with their labels, as `data.name=npz` reads them.

    Args:
      data_dir: where TensorFlow Datasets has prepared cifar10.
      path: of the file.
    """
    arrays = {}
    for split in ("train", "test"):
        source = open_source("tfds:cifar10", data_dir, split)
        images = np.zeros((source.size, 32, 32, 3), np.uint8)
        with progress(f"packing {split}", source.size) as now:
            done = 0
            for batch in one_pass(source, 500, resize=0, crop=0, max_bad_fraction=0):
                images[batch.index[batch.valid]] = batch.image[batch.valid]
                done += int(batch.valid.sum())
                now(done)
        arrays |= {split: images, f"{split}_labels": source.labels}
        arrays["class_names"] = np.array(source.class_names)
    np.savez(path, **arrays)
