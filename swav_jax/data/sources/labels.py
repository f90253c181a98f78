"""Labels of images by the folder that they are in."""

import unicodedata
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from swav_jax.data.sources.names import printable
from swav_jax.data.sources.splits import is_held_out, is_train


class Labels(NamedTuple):
    """The classes of images.

    Attributes:
      numbers: class of each image; None if folders tell no classes apart.
      class_names: sorted, in Unicode's form NFC, in which a name is spelt in one way only.
      note: why there are no labels, if a user might have expected some.
    """

    numbers: Int32[np.ndarray, " N"] | None
    class_names: tuple[str, ...]
    note: str


def labels_by_folder(names: list[bytes]) -> Labels:
    """A class for each first-level folder, if every image is in one and there are several.

    Where all of these are splits, such as `train` and `test`, the classes are the folders in them.

    Args:
      names: of N images, relative to the folder of the data set.
    """
    folders = [name.partition(b"/")[0] if b"/" in name else b"" for name in names]
    class_of = {f: unicodedata.normalize("NFC", printable(f)) for f in set(folders)}
    if b"" in class_of:
        note = (
            f"no image has a label: {folders.count(b'')} of {len(names)} lie beside the folders "
            "of the classes"
        )
        return Labels(None, (), note if len(class_of) > 2 else "")
    if all(is_train(name) or is_held_out(name, wholly=True) for name in class_of.values()):
        return labels_by_folder([name.partition(b"/")[2] for name in names])
    class_names = tuple(sorted(set(class_of.values())))
    if len(class_names) < 2:
        return Labels(None, (), "")
    number = {name: i for i, name in enumerate(class_names)}
    return Labels(np.array([number[class_of[f]] for f in folders], np.int32), class_names, "")
