"""Image files that a text file lists, one a line, or a program."""

import os
from collections.abc import Sequence

from swav_jax.data.sources.files import open_files
from swav_jax.data.sources.labels import labels_by_folder
from swav_jax.data.sources.names import printable, stored
from swav_jax.data.sources.pixels import Pixels
from swav_jax.data.sources.source import DataError, MissingSplit, Source
from swav_jax.data.sources.text import read_lines


def open_list(path: str, split: str, pixels: Pixels) -> Source:
    """The images that a text file lists, in its order; see `open_paths`.

    Relative names are relative to the folder of the list; names can be as tables print them.

    Raises:
      MissingSplit: the split is neither `train` nor `.`, which are all of them.
      DataError: the list is empty, no text, or names a file that is not there.
      OSError: it cannot be read.
    """
    if split not in ("train", "."):
        raise MissingSplit(f"{path} lists images, of which there is no split {split!r}")
    lines = read_lines(path)
    if not lines:
        raise DataError(f"{path} lists no image: write the path of one on each line")
    top = os.path.dirname(os.fsencode(os.path.abspath(path)))
    try:
        return open_paths([_as_stored(os.path.join(top, line)) for line in lines], pixels)
    except DataError as error:
        raise DataError(
            f"{path}: {error}. Paths are absolute, or relative to the folder of the list"
        ) from None


def open_paths(paths: Sequence[bytes], pixels: Pixels) -> Source:
    """The images in these files, in this order.

    Classes are the folders below the one that all the images are in.

    Raises:
      DataError: a file is not there.
    """
    if missing := [path for path in paths if not os.path.isfile(path)]:
        some = ", ".join(map(printable, missing[:5])) + ", ..." * (len(missing) > 5)
        raise DataError(f"{len(missing)} of {len(paths)} files are not there: {some}")
    files = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath({os.path.dirname(file) for file in files})
    names = [os.path.relpath(file, root) for file in files]
    return open_files(root, names, labels_by_folder(names), (), pixels)


def _as_stored(path: bytes) -> bytes:
    """A path as it is, or else the one that is printed like it."""
    return path if os.path.exists(path) else stored(path.decode("utf-8", "surrogateescape"))
