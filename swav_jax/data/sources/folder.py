"""A folder of images, with or without a subfolder for each class."""

import os
from pathlib import Path

import numpy as np
from absl import logging

from swav_jax.data.sources.decode import decode
from swav_jax.data.sources.source import DataError, MissingSplit, Source
from swav_jax.data.tf import tf

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"))
SPLITS = frozenset(("train", "training", "test", "val", "valid", "validation"))


def open_folder(data_dir: str, split: str) -> Source:
    """The images below a split's folder; without a folder `train`, all images are `train`."""
    top = Path(data_dir)
    if not data_dir or not top.is_dir():
        raise DataError(
            f"there is no folder {data_dir!r}: set data.data_dir to a folder of images "
            "(with or without class subfolders)"
        )
    root = top / split
    if not root.is_dir():
        if split != "train":
            raise MissingSplit(f"there is no folder {root}: nothing to read as {split!r}")
        splits = sorted(d.name for d in top.iterdir() if d.is_dir() and d.name.lower() in SPLITS)
        if splits:
            raise DataError(
                f"{top} has {', '.join(splits)} but no {split!r}: name the folder of the training "
                "images by data.train, and that of the test images by data.test"
            )
        root = top
    names = sorted(_image_names(root))
    if not names:
        raise DataError(
            f"no image in {root}: set data.data_dir to a folder with "
            f"{', '.join(sorted(IMAGE_SUFFIXES))} files, in it or in its subfolders"
        )
    paths = tf.constant([os.path.join(root, name) for name in names])
    labels, classes = _labels_by_subfolder(names)
    return Source(
        size=len(names),
        class_names=classes,
        describe=lambda i: os.path.join(root, names[i]),
        read=lambda i: decode(tf.io.read_file(tf.gather(paths, i))),
        may_fail=True,
        find_labels=lambda: labels,
    )


def _image_names(root: Path) -> list[str]:
    """Image files below a folder, relative to it; hidden files and folders are left out."""
    names = []
    for folder, subfolders, files in os.walk(root, followlinks=True):
        relative = os.path.relpath(folder, root)
        for name in subfolders:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                logging.warning("%s is a folder, not an image", os.path.join(folder, name))
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        names += [
            os.path.normpath(os.path.join(relative, name))
            for name in files
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    return names


def _labels_by_subfolder(names: list[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels by first-level subfolder, if every image is in one and there are several."""
    folders = [name.split(os.sep)[0] if os.sep in name else "" for name in names]
    classes = sorted(set(folders))
    if "" in classes or len(classes) < 2:
        return None, ()
    number = {folder: i for i, folder in enumerate(classes)}
    return np.array([number[folder] for folder in folders], np.int32), tuple(classes)
