"""The classes of images that may show several each, from a CSV file or from the data set."""

import csv
import io

import numpy as np
from absl import logging
from jaxtyping import Int

from swav_jax.data.sources.source import DataError, MultiLabels, Source
from swav_jax.data.sources.text import read_text
from swav_jax.evals.subset import by_name

PATH = "path"  # the header of a CSV file's first column
VALUES = {"1": 1, "0": 0, "-1": -1}

Known = tuple[Int[np.ndarray, "_n"], MultiLabels]  # numbers of images, and the classes of these


def multi_labels(train: Source, test: Source, csv_file: str = "") -> tuple[Known, Known] | None:
    """The images whose classes are known, and their classes; None if no image has such labels.

    Args:
      train: images to learn from.
      test: images to judge by.
      csv_file: with the classes; "" for those of the data set.

    Raises:
      DataError: the file cannot be used, or the data sets have other classes.
    """
    if csv_file:
        return _of_file(train, test, csv_file)
    ours, theirs = train.find_multi_labels(), test.find_multi_labels()
    if ours is None or theirs is None:
        return None
    if ours.class_names != theirs.class_names:
        raise DataError("the training images and the test images have other lists of classes")
    return (np.arange(train.size), ours), (np.arange(test.size), theirs)


def _of_file(train: Source, test: Source, csv_file: str) -> tuple[Known, Known]:
    names, rows = read_csv(csv_file)
    places = [by_name(source, rows) for source in (train, test)]
    for name in places[0].keys() & places[1].keys():
        one, other = train.describe(places[0][name]), test.describe(places[1][name])
        if one != other:
            raise DataError(f"{csv_file}: {name!r} is {one} and {other}: write it with its folder")
    known = []
    for source, found in zip((train, test), places, strict=True):
        if not found:
            raise DataError(
                f"{csv_file} names none of {source}; it has paths like {next(iter(rows), '')!r}"
            )
        if without := source.size - len(found):
            logging.info("%s says nothing of %d of %d images", csv_file, without, source.size)
        present = np.array([rows[name] for name in found], np.int8)
        known.append((np.array([*found.values()]), MultiLabels(names, present)))
    return known[0], known[1]


def read_csv(path: str) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """The names of the classes, and for each path whether its image shows them.

    The first line is `path` and the names; the others are a path and 1 (shown), 0 (not shown) or -1
    (does not count) for each class.

    Raises:
      DataError: a line that says something else, or a file that is no text in UTF-8.
      OSError: it cannot be read.
    """
    try:
        text = io.StringIO(read_text(path).decode(), newline="")
        header, *lines = [*csv.reader(text)] or [[]]
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{path} is no CSV file in UTF-8: {problem}") from None
    if header[:1] != [PATH] or len(header) < 2:
        raise DataError(f"{path}: the first line must be {PATH} and the names of the classes")
    rows: dict[str, list[int]] = {}
    for number, line in enumerate(lines, start=2):
        name, *values = line or [""]
        if len(values) != len(header) - 1 or not {*values} <= VALUES.keys() or name in rows:
            raise DataError(
                f"{path}, line {number}: it must be the path of another image, then 1, 0 or -1 "
                f"for each of the {len(header) - 1} classes, and is {','.join(line)!r}"
            )
        rows[name] = [VALUES[value] for value in values]
    return tuple(header[1:]), rows
