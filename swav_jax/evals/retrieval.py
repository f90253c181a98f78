"""Retrieval: test images ask for training images of their class, ranked by cosine similarity."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from swav_jax.evals.knn import neighbours, others
from swav_jax.evals.labelled import Images, by_others, labelled, readable_pair
from swav_jax.ops.similarity import similarity, unit

SIMILARITIES = 2**25  # held at once: 128 MB in float32


def retrieval(
    features: Callable[[Images], Float32[np.ndarray, "N F"]],
    train: Images,
    test: Images,
    *,
    ks: Sequence[int] = (1, 10, 100),
) -> dict[str, float] | None:
    """How well a network's features find images of the same class.

    Args:
      features: of all of some images; NO_FEATURES for one that cannot be read.
      train: the images of which those with a label are searched.
      test: the images of which those with a label ask; `train` itself for leave-one-out, where each
        asks for all others.
      ks: numbers of nearest images.

    Returns:
      `map`, `precision_at_<k>` and `recall_at_<k>` in percent, and how many `train_images` were
      searched for `test_images`; None without any. Where k exceeds `train_images`, the missing ones
      count as wrong.
    """
    pair = labelled(train, test)
    if pair is None:
        return None
    if test is train:
        known, labels, itself = by_others(features(pair[0]), pair[0])
        truth, relevant = labels[itself], np.bincount(labels) - 1
        precisions = average_precisions(known, labels, known[itself], truth, itself)
        who = others(known, max(ks))[1][itself]
    else:
        known, labels, judged, truth = readable_pair(features, pair)
        relevant = np.bincount(labels)
        precisions = average_precisions(known, labels, judged, truth)
        who = np.asarray(neighbours(known, judged, max(ks))[1])
    found = {"map": 100 * float(np.mean(precisions))}
    right, of_class = labels[who] == truth[:, None], relevant[truth]
    for k in ks:
        hits = right[:, :k].sum(axis=1)
        found[f"precision_at_{k}"] = 100 * float(np.mean(hits / k))
        found[f"recall_at_{k}"] = 100 * float(np.mean(hits / of_class))
    return found | {"train_images": len(labels), "test_images": len(truth)}


def average_precisions(
    train_features: Float[np.ndarray, "N F"],
    train_labels: Int[np.ndarray, "N"],
    test_features: Float[np.ndarray, "M F"],
    test_labels: Int[np.ndarray, "M"],
    itself: Int[np.ndarray, "M"] | None = None,
) -> Float[np.ndarray, "M"]:
    """The average precision of each test image's ranking of all training images, from 0 to 1.

    The mean, over the training images of its class, of the share of that class among all that are
    at least as similar; as scikit-learn's `average_precision_score`, also where similarities are
    equal. Every test image's class has a training image.

    Args:
      train_features: of the images that are found, of any length.
      train_labels: their classes.
      test_features: of the images that ask.
      test_labels: their classes.
      itself: number of each among the training images, for leave-one-out: it is not ranked.
    """
    known = unit(jnp.asarray(train_features, jnp.float32))
    chunk = max(1, SIMILARITIES // len(known))
    found = []
    for first in range(0, len(test_features), chunk):
        judged = unit(jnp.asarray(test_features[first : first + chunk], jnp.float32))
        rows = np.asarray(similarity(judged, known))
        truth = test_labels[first : first + chunk]
        relevant = train_labels[None] == truth[:, None]
        for number, (row, wanted) in enumerate(zip(rows, relevant, strict=True), start=first):
            if itself is not None:
                row, wanted = np.delete(row, itself[number]), np.delete(wanted, itself[number])
            found.append(_average_precision(row, wanted))
    return np.array(found)


def _average_precision(
    similarities: Float32[np.ndarray, "N"], relevant: Bool[np.ndarray, "N"]
) -> float:
    # Sorted values are enough to count those as high, and far faster to get than an order.
    everything, own = np.sort(similarities), np.sort(similarities[relevant])
    as_high = len(everything) - np.searchsorted(everything, own)
    own_as_high = len(own) - np.searchsorted(own, own)
    return float(np.mean(own_as_high / as_high))
