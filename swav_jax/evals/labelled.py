"""Data sets as evaluations see them: one centre crop of each image, and labels in common terms."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Int32

from swav_jax.data.batch import EvalBatch
from swav_jax.data.batches import Batches, eval_batches
from swav_jax.data.sources.source import DataError, Source


@dataclass(frozen=True)
class Images:
    """N images, and how an evaluation reads and normalises them.

    Attributes:
      source: the images.
      resize: pixels of the shorter side before the centre crop; 0 leaves images as they are.
      crop: S, pixels of the crop.
      mean: of each channel, of values from 0 to 1.
      std: of each channel.
      batch_size: images of a forward pass, at least.
      max_bad_fraction: unreadable images tolerated, as a share of N.
      threads: that decode; 0 for one a core.
    """

    source: Source
    resize: int
    crop: int
    mean: Sequence[float]
    std: Sequence[float]
    batch_size: int = 256
    max_bad_fraction: float = 0.01
    threads: int = 0

    def batches(self, multiple: int = 1) -> Batches[EvalBatch]:
        """One pass over the images; a batch is a multiple of the given number of rows."""
        return eval_batches(
            self.source,
            -(-self.batch_size // multiple) * multiple,
            resize=self.resize,
            crop=self.crop,
            host=jax.process_index(),
            hosts=jax.process_count(),
            max_bad_fraction=self.max_bad_fraction,
            threads=self.threads,
        )


def renumber_labels(train: Source, test: Source) -> Int32[np.ndarray, "M"]:
    """The test images' labels, numbered as the training images' are: by the classes' names.

    Raises:
      DataError: a class that no training image has.
    """
    assert test.labels is not None  # the caller has checked
    if test.class_names == train.class_names:
        return test.labels
    unknown = sorted(set(test.class_names) - set(train.class_names))
    if unknown:
        raise DataError(
            f"no training image has the test images' class {unknown[0]!r}; the training classes "
            f"are {', '.join(train.class_names[:10])}{', ...' * (len(train.class_names) > 10)}"
        )
    number = {name: i for i, name in enumerate(train.class_names)}
    return np.array([number[name] for name in test.class_names], np.int32)[test.labels]
