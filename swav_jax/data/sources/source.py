"""A source of images: what every data set offers, and the errors of one that cannot be used."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Int32

from swav_jax.data.tf import tf


class DataError(ValueError):
    """The data cannot be used; the message names what was looked for and what to do."""


class MissingSplit(DataError):
    """The data set has no such split, for example no test images: evaluation can be skipped."""


@dataclasses.dataclass(frozen=True)
class Source:
    """N images that can be read in any order.

    Attributes:
        size: N.
        class_names: names of the labels, empty without labels.
        describe: image number -> its file or record, for messages.
        read: int64 [] image number -> uint8 [H, W, 3]; TensorFlow ops, for use inside tf.data.
        may_fail: whether `read` can fail on a damaged image, by an error or by giving an empty one;
            False if all is decoded in memory.
        find_labels: gives `labels`; called once, when somebody asks for them.
        unreadable: numbers of the images that this host has found unreadable so far.
    """

    size: int
    class_names: tuple[str, ...]
    describe: Callable[[int], str]
    read: Callable[[tf.Tensor], tf.Tensor]
    may_fail: bool
    find_labels: Callable[[], np.ndarray | None]
    unreadable: set[int] = dataclasses.field(default_factory=set, compare=False)

    @functools.cached_property
    def labels(self) -> Int32[np.ndarray, " N"] | None:
        """The class of each image, or None. A TFDS split is read through once to find them."""
        return self.find_labels()
