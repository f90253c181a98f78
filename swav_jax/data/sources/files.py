"""Image files by their names."""

import os
from collections.abc import Sequence

from swav_jax.data.sources.decode import decode
from swav_jax.data.sources.formats import suffix_of, trusted_suffixes
from swav_jax.data.sources.labels import Labels
from swav_jax.data.sources.names import printable
from swav_jax.data.sources.pixels import Pixels, evenly, first_look, why_unreadable
from swav_jax.data.sources.source import Source
from swav_jax.data.tf import tf


def open_files(
    root: bytes, names: list[bytes], labels: Labels, notes: Sequence[str], pixels: Pixels
) -> Source:
    """The images in files below a folder.

    Args:
      root: the folder.
      names: of the files, relative to it.
      labels: of the images.
      notes: what a user should know.
      pixels: how stored pixels become those that are read.
    """
    sample, paths, size = _some_of_each_suffix(names), tf.constant(names), len(names)
    del names  # of millions of images one copy is enough

    def path(i: int) -> bytes:
        return os.path.join(root, paths[i].numpy())

    def data(i: int) -> bytes:
        with open(path(i), "rb") as file:
            return file.read()

    pixels, found_out, area = first_look(data, sample, pixels)
    start = os.path.join(os.path.realpath(root), b"")
    return Source(
        size=size,
        class_names=labels.class_names,
        describe=lambda i: printable(path(i)),
        path=path,
        read=lambda i: decode(tf.io.read_file(start + tf.gather(paths, i)), pixels),
        area=area,
        may_fail=True,
        find_labels=lambda: labels.numbers,
        explain=lambda i: why_unreadable(lambda: data(i), pixels),
        changed=lambda i: os.stat(path(i)).st_mtime_ns,
        identity=paths.numpy,
        notes=(*notes, *(f"{printable(root)}: {note}" for note in found_out)),
        pixels=pixels,
    )


def _some_of_each_suffix(names: list[bytes]) -> list[int]:
    """Numbers of images to look at, evenly spread over each usual suffix and over the others."""
    by_suffix: dict[bytes, list[int]] = {}
    for number, name in enumerate(names):
        suffix = suffix_of(name)
        by_suffix.setdefault(suffix if suffix in trusted_suffixes() else b"", []).append(number)
    return [numbers[i] for numbers in by_suffix.values() for i in evenly(len(numbers))]
