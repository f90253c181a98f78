"""Where images come from: the digits, a folder, a NumPy file, TensorFlow Datasets; one interface.

A `Source` reads any image by its number, in any order: the training order is arithmetic
(`index.py`), so nothing here shuffles, buffers or keeps a position.
"""

import os
from itertools import chain
from pathlib import Path
from typing import NoReturn

from swav_jax.data.sources.pixels import AS_USUAL, Pixels
from swav_jax.data.sources.source import DataError, Source


def is_own_folder(data_dir: str) -> bool:
    """Whether a folder holds files, and none that TensorFlow Datasets has prepared or fetched.

    Raises:
      DataError: a folder that cannot be listed.
    """
    top = Path(data_dir).expanduser()
    if not data_dir or not top.is_dir() or (top / "downloads").is_dir():
        return False
    prepared = chain(top.glob("*/*/dataset_info.json"), top.glob("*/*/*/dataset_info.json"))
    return not any(prepared) and _holds_files(top)


def _holds_files(top: Path) -> bool:
    """Whether there is a file below a folder, following links, of which some may lead back."""

    def refuse(error: OSError) -> NoReturn:
        raise DataError(f"{error.filename} cannot be listed ({error.strerror}): make it readable")

    seen = set()
    for folder, subfolders, files in os.walk(top, onerror=refuse, followlinks=True):
        if files:
            return True
        if (place := os.path.realpath(folder)) in seen:
            subfolders.clear()
        seen.add(place)
    return False


def open_source(
    name: str,
    data_dir: str,
    split: str,
    *,
    download: bool = False,
    image_key: str = "",
    label_key: str = "",
    pixels: Pixels = AS_USUAL,
) -> Source:
    """Opens one split of a data set.

    Args:
      name: `digits` (scikit-learn's, bundled), `folder`, `npz`, or `tfds:<name>` such as
        `tfds:cifar10`.
      data_dir: the folder of images, or a text file that lists some; the `.npz` file; TFDS's data
        folder ("" for TFDS's own default).
      split: `train` or `test` for the digits; a subfolder of a folder (without a `train`
        subfolder, the whole folder is `train`; `.` is all of it in any case); an array of the
        `.npz` file; any TFDS split, also `train[:10%]`.
      download: let TFDS download and prepare a data set that is not there.
      image_key: TFDS's feature that is the image; "" for the rules of `open_tfds`.
      label_key: TFDS's feature that is the label; "" for the rules of `open_tfds`.
      pixels: how stored pixels become 8-bit RGB.

    Raises:
      MissingSplit: the data set is there, this split of it is not.
      DataError: there is no such data set, or no image in it.
    """
    if (image_key or label_key) and not name.startswith("tfds:"):
        raise DataError(
            f"data.image_key and data.label_key name features of tfds:<name>; data.name is {name!r}"
        )
    data_dir = os.path.expanduser(data_dir)
    # Imported where they are needed: TensorFlow takes seconds.
    if name == "digits":
        from swav_jax.data.sources.digits import open_digits

        return open_digits(split)
    if name == "folder" and os.path.isfile(data_dir):
        from swav_jax.data.sources.listed import open_list

        return open_list(data_dir, split, pixels)
    if name == "folder":
        from swav_jax.data.sources.folder import open_folder

        return open_folder(data_dir, split, pixels)
    if name == "npz":
        from swav_jax.data.sources.packed import open_packed

        return open_packed(data_dir, split)
    if name.startswith("tfds:"):
        from swav_jax.data.sources.tfds import open_tfds

        name = name.removeprefix("tfds:")
        return open_tfds(name, data_dir, split, download, image_key, label_key, pixels)
    raise DataError(f"data.name is {name!r}; it can be digits, folder, npz or tfds:<name>")
