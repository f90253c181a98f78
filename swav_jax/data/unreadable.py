"""Images that cannot be read: each is named in the log once, and too many stop the run."""

import math
from collections.abc import Iterable

import numpy as np
from absl import logging
from jaxtyping import Bool, Float32

from swav_jax.data.sources.source import DataError, Source

# Fills the row of an image that could not be read: features of others are numbers, if only zeros.
NO_FEATURES = np.nan
REPLACEMENTS = 64  # images tried in place of an unreadable one


def note(source: Source, bad: Iterable[int], max_bad_fraction: float) -> None:
    """Names and counts images that could not be read.

    Args:
      source: N images; `unreadable` gets the new ones.
      bad: numbers of those that could not be read.
      max_bad_fraction: of N; more unreadable images are refused.

    Raises:
      DataError: there are too many.
    """
    for number in bad:
        if number not in source.unreadable:
            source.unreadable.add(number)
            logging.warning(
                "%s cannot be read (%s); training shows another in its place, evaluations none",
                source.describe(number),
                source.explain(number),
            )
    check(source, max_bad_fraction)


def check(source: Source, max_bad_fraction: float) -> None:
    """Refuses a source of which too many images are known to be unreadable.

    Raises:
      DataError: more than this share of them are.
    """
    if len(source.unreadable) > (allowed := max_bad_fraction * source.size):
        raise DataError(
            f"{_which(source)}. Repair or remove them (the log names each), or raise "
            f"data.max_bad_fraction, which allows {allowed:g} of them"
        )


def no_replacement(source: Source) -> DataError:
    """The error of an image in whose place no other can be shown."""
    in_a_row = min(REPLACEMENTS, source.size)
    return DataError(
        f"{_which(source)}; {in_a_row} in a row, so that none can be shown in their place. Repair "
        "or remove them (the log names each)"
    )


def _which(source: Source) -> str:
    """How many images cannot be read, and some of them with the reason."""
    unreadable = sorted(source.unreadable)
    some = [f"{source.describe(i)} ({source.explain(i)})" for i in unreadable[:5]]
    some += ["..."] * (len(unreadable) > len(some))
    return f"{len(unreadable)} of {source.size} images cannot be read: {', '.join(some)}"


def were_read(rows: Float32[np.ndarray, "N *F"]) -> Bool[np.ndarray, " N"]:
    """Which rows are features of images that could be read; NO_FEATURES is in those of others."""
    return ~np.isnan(rows.reshape(len(rows), -1)[:, 0])


def replacement_step(size: int) -> int:
    """A stride that visits every image once: near the golden section of N, and coprime to N.

    Damaged files are often neighbours; the stride leaves them at once.
    """
    step = max(1, round(size * 0.618))
    while math.gcd(step, size) != 1:
        step += 1
    return step
