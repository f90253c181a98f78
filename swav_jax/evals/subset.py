"""The few labelled images of semi-supervised evaluation: a share of each class, or a list."""

from collections.abc import Collection, Iterable
from pathlib import PurePath

import numpy as np
from jaxtyping import Int

from swav_jax.data.sources.source import DataError, Source


def balanced(labels: Int[np.ndarray, "N"], share: float, seed: int = 0) -> Int[np.ndarray, "n"]:
    """Numbers of images drawn from each class, in order: its share, and at least one.

    A smaller share's images are among a larger one's of the same seed.

    Args:
      labels: -1 for an image without one, which is never drawn.
      share: from 0 to 1.
      seed: of the draw.
    """
    random, chosen = np.random.RandomState(seed), []
    for label in np.unique(labels[labels >= 0]):
        own = random.permutation(np.flatnonzero(labels == label))
        chosen.append(own[: max(round(share * len(own)), 1)])
    return np.sort(np.concatenate(chosen))


def listed(source: Source, names: Iterable[str], which: str = "image") -> Int[np.ndarray, "n"]:
    """Numbers of the images that are named, in order.

    Args:
      source: N images.
      names: of files, with as many of the folders above them as tell them apart, or of records.
      which: are among the N, for the error.

    Raises:
      DataError: a name of no image, or of several.
    """
    wanted = dict.fromkeys(str(PurePath(name)) for name in names)
    found = by_name(source, wanted)
    if missing := [name for name in wanted if name not in found]:
        raise DataError(
            f"{len(missing)} of {len(wanted)} listed names are of no {which}, "
            f"the first is {missing[0]!r}; the images are like {source.describe(0)}"
        )
    return np.unique(list(found.values()))


def by_name(source: Source, names: Collection[str]) -> dict[str, int]:
    """The number of each image that is named, by that name.

    Args:
      source: N images.
      names: as `listed` takes them; one of no image is left out.

    Raises:
      DataError: a name of several images.
    """
    wanted = {PurePath(name).parts: name for name in names}
    lengths = sorted({len(parts) for parts in wanted})
    found: dict[str, int] = {}
    for number in range(source.size):
        parts = PurePath(source.describe(number)).parts
        for name in filter(None, (wanted.get(parts[-length:]) for length in lengths)):
            if name in found:
                raise DataError(
                    f"{name!r} is the name of {source.describe(found[name])} and of "
                    f"{source.describe(number)}: write it with its folder"
                )
            found[name] = number
    return found
