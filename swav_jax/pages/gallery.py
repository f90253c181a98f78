"""The clusters of a data set as a report shows them, and the images that it shows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

MEMBERS = 4000  # images of all clusters together that are shown besides those of the map
CLASSES = 4  # of a cluster that are named


def chosen(
    clusters: Int[np.ndarray, "N"],
    scores: Float[np.ndarray, "N"],
    count: int,
    also: Sequence[Int[np.ndarray, "n"]],
) -> Int[np.ndarray, "M"]:
    """Numbers of the images to show: the best of each of `count` clusters, and others.

    Returns:
      them by cluster, those with the largest score first.
    """
    order = np.lexsort((-scores, clusters))
    ranks = np.arange(len(order)) - np.searchsorted(clusters[order], clusters[order])
    wanted = np.zeros(len(order), bool)
    wanted[order[ranks < max(MEMBERS // count, 1)]] = True
    for numbers in also:
        wanted[numbers] = True
    return order[wanted[order]]


def summaries(
    clusters: Int[np.ndarray, "N"],
    scores: Float[np.ndarray, "N"],
    count: int,
    labels: Int[np.ndarray, "N"] | None,
    shown: Int[np.ndarray, "M"],
) -> list[dict[str, Any]]:
    """What the script reads of each of `count` clusters.

    Returns:
      `number`, `size`, mean `score`, `first` and `end` of the cluster's places in `shown`, and with
      labels `purity`, the share of its images in its largest class, and `shares`, (class, share)
      of the largest CLASSES.
    """
    order = np.argsort(clusters, kind="stable")
    starts = np.searchsorted(clusters[order], np.arange(count + 1))
    places = np.searchsorted(clusters[shown], np.arange(count + 1))
    found = []
    for number in range(count):
        members = order[starts[number] : starts[number + 1]]
        one: dict[str, Any] = {
            "number": number,
            "size": len(members),
            "score": round(float(scores[members].mean()), 4) if len(members) else 0.0,
            "first": int(places[number]),
            "end": int(places[number + 1]),
        }
        if labels is not None:
            shares = _shares(labels[members])
            one |= {"shares": shares, "purity": shares[0][1] if shares else 0.0}
        found.append(one)
    return found


def _shares(labels: Int[np.ndarray, "n"]) -> list[tuple[int, float]]:
    """The largest classes of a cluster and the shares of its labelled images in them."""
    known = labels[labels >= 0]
    if not len(known):
        return []
    counts = np.bincount(known)
    largest = np.argsort(-counts, kind="stable")[:CLASSES]
    return [(int(c), round(float(counts[c]) / len(known), 4)) for c in largest if counts[c]]
