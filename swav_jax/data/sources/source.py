"""A source of images: what every data set offers, and the errors of one that cannot be used."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Int8, Int32, UInt8

from swav_jax.data.sources.names import printable
from swav_jax.data.sources.pixels import AS_USUAL, Pixels

Tensor = Any  # tf.Tensor; `import swav_jax` and `main.py --help` should not wait for TensorFlow


class DataError(ValueError):
    """The data cannot be used; the message names what was looked for and what to do."""


class MissingSplit(DataError):
    """The data set has no such split, for example no test images: evaluation can be skipped."""


class SizesDiffer(DataError):
    """Images of several sizes where one is needed."""


class MultiLabels(NamedTuple):
    """Which classes images show, where each may show several.

    Attributes:
      class_names: of C classes.
      present: 1 for the classes that an image shows, 0 for others, -1 where it does not count: the
        class is hard to see or not known.
    """

    class_names: tuple[str, ...]
    present: Int8[np.ndarray, " N C"]


@dataclasses.dataclass(frozen=True)
class Source:
    """N images that can be read in any order.

    Attributes:
      size: N.
      class_names: names of the labels, empty without labels.
      describe: image number -> its file or record, for messages.
      path: image number -> its file; None if images are not files of their own.
      read: int64 [] image number -> uint8 [H, W, 3]; TensorFlow ops, for use inside tf.data.
      decode: image number -> the pixels that `read` gives, without TensorFlow; raises on a damaged
        image, or gives an empty one. None where TensorFlow's decoders are much faster.
      shape: H and W of all images; None where they differ or are not known.
      area: mean number of pixels of an image, judged by some; 0 if it is not known.
      may_fail: whether `read` can fail on a damaged image, by an error or by giving an empty one;
        False if all is decoded in memory.
      find_labels: gives numbers of `class_names`, negative ones for images without a label, or
        None; called once, when somebody asks for `labels`.
      find_multi_labels: gives the classes of images that may show several, or None.
      explain: number of an image that cannot be read -> why, for messages.
      changed: image number -> when its file was changed, in nanoseconds; 0 if it never is.
      lasting: whether an image's name means the same tomorrow; False for images in memory.
      identity: gives bytes that tell which images these are and in what order, wherever they lie.
      feature: of a record that is the image; "" where a file is one.
      notes: what a user should know: what of the data is not used, what was found out from them.
      pixels: how stored pixels become those that are read.
      unreadable: numbers of the images that this process has found unreadable so far.
    """

    size: int
    class_names: tuple[str, ...]
    describe: Callable[[int], str]
    read: Callable[[Tensor], Tensor]
    may_fail: bool
    find_labels: Callable[[], np.ndarray | None]
    decode: Callable[[int], UInt8[np.ndarray, "H W 3"]] | None = None
    shape: tuple[int, int] | None = None
    area: float = 0.0
    path: Callable[[int], bytes] | None = None
    find_multi_labels: Callable[[], MultiLabels | None] = lambda: None
    explain: Callable[[int], str] = lambda _: "damaged"
    changed: Callable[[int], int] = lambda _: 0
    lasting: bool = True
    identity: Callable[[], Iterable[bytes]] = lambda: ()
    feature: str = ""
    notes: tuple[str, ...] = ()
    pixels: Pixels = AS_USUAL
    unreadable: set[int] = dataclasses.field(default_factory=set, compare=False)

    def __str__(self) -> str:
        return f"{self.size} images, {self.describe(0)} first"

    def name(self, i: int) -> str:
        """What tables call an image: its file, found from any folder, or else its record."""
        return printable(os.path.abspath(self.path(i))) if self.path else self.describe(i)

    @functools.cached_property
    def digest(self) -> str:
        """Of `identity`, 16 hexadecimal digits: others for other images or in another order.

        Files are known by their names within the folder. That takes 0.5 s for a million.
        """
        digest = hashlib.blake2b(str(self.size).encode(), digest_size=8)
        for part in self.identity():
            digest.update(b"\0" + part)  # no name has that byte
        return digest.hexdigest()

    @functools.cached_property
    def labels(self) -> Int32[np.ndarray, " N"] | None:
        """The class of each image, -1 for an image without a label; None if no image has one.

        -1 is no class: such an image neither votes nor is judged, and counts in no figure that
        compares with labels. A TFDS split is read through once to find them.
        """
        labels = self.find_labels()
        if labels is None or (labels < 0).all():
            return None
        return np.maximum(labels, -1)

    def part(
        self,
        numbers: Int[np.ndarray, " n"],
        labels: Int32[np.ndarray, " n"],
        class_names: tuple[str, ...],
    ) -> "Source":
        """Some of the images, in the order given, with labels of their own."""
        if np.array_equal(numbers, np.arange(self.size)):  # keeps in mind which are unreadable
            return dataclasses.replace(self, class_names=class_names, find_labels=lambda: labels)

        def read(i: Tensor) -> Tensor:
            from swav_jax.data.tf import tf

            return self.read(tf.gather(tf.constant(numbers, tf.int64), i))

        path, decode = self.path, self.decode
        return dataclasses.replace(
            self,
            size=len(numbers),
            class_names=class_names,
            describe=lambda i: self.describe(int(numbers[i])),
            path=path and (lambda i: path(int(numbers[i]))),
            read=read,
            decode=decode and (lambda i: decode(int(numbers[i]))),
            find_labels=lambda: labels,
            find_multi_labels=lambda: None,
            explain=lambda i: self.explain(int(numbers[i])),
            changed=lambda i: self.changed(int(numbers[i])),
            identity=lambda: (*self.identity(), numbers.astype(np.int64).tobytes()),
            unreadable=set(),
        )
