"""The labels of a TFDS split, which are read from its records."""

import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Int8, Int32

from swav_jax.data.sources.source import DataError, MultiLabels

Feature = Callable[[int, str], Any]  # number of a record, name of a feature -> its values
PART = 1000  # records that a thread reads at a time


def read_labels(feature: Feature, key: str, size: int) -> Int32[np.ndarray, " N"]:
    """The class of each image; -1 where the record is damaged.

    Args:
      feature: reads records.
      key: the feature that is the label.
      size: N.

    Raises:
      DataError: the disk or the network failed; a record that is damaged stays so, this may not.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # as it says

    def label_of(i: int) -> int:
        try:
            (label,) = feature(i, key).int64_list.value
        except OSError as error:
            if error.errno in (None, errno.ENOENT):  # a file that is cut short, or is not there
                return -1
            raise DataError(
                f"the label of image {i} cannot be read ({error.strerror}): see to the disk or "
                "the network that the data set is on, and run the same command again"
            ) from error
        except (RuntimeError, ValueError, DecodeError):
            return -1
        return label

    parts = [range(i, min(i + PART, size)) for i in range(0, size, PART)]
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda part: [label_of(i) for i in part], parts)
        return np.concatenate(list(found)).astype(np.int32)


def read_multi_labels(feature: Feature, info: Any, size: int) -> MultiLabels | None:
    """The classes of images that may show several; None if no feature lists them.

    Args:
      feature: reads records.
      info: of the data set.
      size: N.
    """
    key = _multi_label_key(info)
    if not key:
        return None
    names = tuple(info.features[key].feature.names)
    present = _present(feature, key, size, len(names))
    easy = f"{key}_no_difficult"
    if easy in info.features:
        present[(present == 1) & (_present(feature, easy, size, len(names)) == 0)] = -1
    return MultiLabels(names, present)


def _multi_label_key(info: Any) -> str:
    """The feature that lists an image's classes: `labels`, else the only such one; "" for none.

    Beside it `<feature>_no_difficult` may list those of them that are easy to see, as in `voc`.
    """
    from tensorflow_datasets.core.features import ClassLabel, Sequence

    lists = [
        key
        for key, feature in info.features.items()
        if isinstance(feature, Sequence) and isinstance(feature.feature, ClassLabel)
    ]
    if "labels" in lists:
        return "labels"
    return lists[0] if len(lists) == 1 else ""


def _present(feature: Feature, key: str, size: int, classes: int) -> Int8[np.ndarray, " N C"]:
    """1 for the classes that an image's feature lists, 0 for others."""
    present = np.zeros((size, classes), np.int8)
    for i in range(size):
        shown = np.array(feature(i, key).int64_list.value, np.int64)
        present[i, shown[(shown >= 0) & (shown < classes)]] = 1
    return present
