"""Data sets as evaluations see them: one centre crop of each image, and labels in common terms."""

import dataclasses
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import jax
import numpy as np
from absl import logging
from jaxtyping import Float32, Int, Int32

from swav_jax.data.batch import EvalBatch
from swav_jax.data.passes import one_pass
from swav_jax.data.sources.source import DataError, Source
from swav_jax.data.unreadable import were_read
from swav_jax.runtime.processes import warn


@dataclasses.dataclass(frozen=True)
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
      between: called before each batch; what it raises ends the pass.
    """

    source: Source
    resize: int
    crop: int
    mean: Sequence[float]
    std: Sequence[float]
    batch_size: int = 256
    max_bad_fraction: float = 0.01
    threads: int = 0
    between: Callable[[], None] = lambda: None

    def batches(self, multiple: int = 1, first: int = 0) -> Iterator[EvalBatch]:
        """One pass over the images from a number on; a batch is a multiple of `multiple` rows."""
        for batch in one_pass(
            self.source,
            -(-self.batch_size // multiple) * multiple,
            resize=self.resize,
            crop=self.crop,
            first=first,
            process=jax.process_index(),
            processes=jax.process_count(),
            max_bad_fraction=self.max_bad_fraction,
            threads=self.threads,
        ):
            self.between()
            yield batch


@cache  # a run evaluates the same images again and again: what is left out is said once
def labelled(train: Images, test: Images) -> tuple[Images, Images] | None:
    """The images that an evaluation by labels can use, with labels in common terms.

    Left out are images without a label and, with a warning, test images of a class that no
    training image has. Classes are the same if their names are, in Unicode's composed form.

    Returns:
      the training and the test images; None if there are none, and the log says why.
    """
    if why := unusable(train, test):
        unlabelled = train.source.labels is None or test.source.labels is None
        (logging.info if unlabelled else warn)(f"no evaluation by labels: {why}")
        return None
    known, judged = _counts(train.source), _counts(test.source)
    if unknown := Counter({name: count for name, count in judged.items() if name not in known}):
        warn(
            f"evaluations by labels leave out {unknown.total()} of {test.source.size} test images: "
            f"no training image is of their class, {_listed(unknown)}"
        )
    return _of_classes(train, tuple(known), "training"), _of_classes(test, tuple(known), "test")


def unusable(train: Images, test: Images) -> str:
    """Why `labelled` has no images, in a line; "" if it has some."""
    both = (train, "training", "eval.train"), (test, "test", "eval.test")
    for images, which, key in both:
        if images.source.labels is None:
            return f"the {which} images have no labels; {key} can name others"
    known, judged = _counts(train.source), _counts(test.source)
    if known.keys() & judged.keys():
        return ""
    return (
        f"no test image is of a class that a training image has: they are {_listed(judged)}, "
        f"training images {_listed(known)}"
    )


def readable(
    features: Float32[np.ndarray, "N F"], images: Images
) -> tuple[Float32[np.ndarray, "n F"], Int32[np.ndarray, "n"]]:
    """Features and labels of those of `labelled` images that could be read.

    Args:
      features: of all the images; NO_FEATURES for one that no process could read.
      images: N of them.
    """
    assert images.source.labels is not None  # `labelled` has checked
    kept = were_read(features)
    return features[kept], images.source.labels[kept]


Features = Callable[[Images], Float32[np.ndarray, "N F"]]  # NO_FEATURES for one that cannot be read


def readable_pair(features: Features, pair: tuple[Images, Images]) -> tuple[Any, Any, Any, Any]:
    """Features and labels of those of a `labelled` pair that could be read.

    Left out are, with a warning, test images of a class of which no training image could be read.

    Args:
      features: of all of some images.
      pair: training and test images.

    Returns:
      features [n, F] and labels [n] of the training images, then [m, F] and [m] of the test images.

    Raises:
      DataError: no test image is left.
    """
    (known, labels), (judged, truth) = (readable(features(images), images) for images in pair)
    kept = np.isin(truth, labels)
    if not kept.any():
        raise DataError(
            "no evaluation by labels: of no class a training image and a test image can be read"
        )
    if not kept.all():
        warn(
            f"evaluations by labels leave out {np.count_nonzero(~kept)} of {len(kept)} test "
            "images: no training image of their class can be read"
        )
    return known, labels, judged[kept], truth[kept]


def by_others(
    features: Float32[np.ndarray, "N F"], images: Images
) -> tuple[Float32[np.ndarray, "n F"], Int32[np.ndarray, "n"], Int[np.ndarray, "m"]]:
    """Features and labels of the `labelled` images that could be read, for leave-one-out.

    Returns:
      features, labels, and the numbers of the images whose class has others; images without are
      left out with a warning.

    Raises:
      DataError: there are none.
    """
    known, labels = readable(features, images)
    judged = np.flatnonzero(np.bincount(labels, minlength=1)[labels] > 1)
    if not len(judged):
        raise DataError("leave-one-out needs a class with two images that can be read")
    if alone := len(labels) - len(judged):
        warn(f"leave-one-out judges all but {alone} images: each is the only one of its class")
    return known, labels, judged


def _of_classes(images: Images, names: tuple[str, ...], which: str) -> Images:
    """The images of these classes, with labels numbered as the names are."""
    source = images.source
    assert source.labels is not None  # the caller has checked
    number = {name: i for i, name in enumerate(names)}
    in_common = [number.get(composed(name), -1) for name in source.class_names]
    labels = np.array([*in_common, -1], np.int32)[source.labels]  # label -1 takes the last
    if without := np.count_nonzero(source.labels < 0):
        logging.info(
            "evaluations by labels leave out %d of %d %s images: they have no label",
            *(without, source.size, which),
        )
    chosen = np.flatnonzero(labels >= 0)
    return dataclasses.replace(images, source=source.part(chosen, labels[chosen], names))


def _counts(source: Source) -> Counter[str]:
    """How many images there are of each class, without those of which there is none."""
    assert source.labels is not None  # the caller has checked
    counts: Counter[str] = Counter()
    for label, count in enumerate(np.bincount(source.labels[source.labels >= 0])):
        if count:
            counts[composed(source.class_names[label])] += int(count)
    return counts


def _listed(counts: Counter[str]) -> str:
    """The most frequent classes, each with its number of images."""
    some = [f"{name} ({count})" for name, count in counts.most_common(10)]
    return ", ".join(some) + ", ..." * (len(counts) > len(some))


def composed(name: str) -> str:
    """A class's name in the form in which names are compared."""
    return unicodedata.normalize("NFC", name)
