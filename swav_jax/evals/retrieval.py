"""Retrieval: test images ask for training images of their class, ranked by cosine similarity."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from swav_jax.evals.knn import neighbours
from swav_jax.evals.labelled import Images, labelled, readable
from swav_jax.ops.similarity import similarity, unit

SIMILARITIES = 2**25  # held at once: 128 MB in float32


def retrieval(
    features: Callable[[Images], Float32[np.ndarray, "N F"]],
    train: Images,
    test: Images | None,
    *,
    ks: Sequence[int] = (1, 10, 100),
) -> dict[str, float] | None:
    """How well a network's features find images of the same class.

    Args:
      features: of all of some images; zeros for one that cannot be read.
      train: the images of which those with a label are searched.
      test: the images of which those with a label ask, if there are any.
      ks: numbers of nearest images.

    Returns:
      `map`, `precision_at_<k>` and `recall_at_<k>` in percent, and how many `train_images` were
      searched for `test_images`; None without any. Where k exceeds `train_images`, the missing ones
      count as wrong.
    """
    pair = labelled(train, test) if test else None
    if pair is None:
        return None
    (known, labels), (judged, truth) = (readable(features(images), images) for images in pair)
    found = {"map": 100 * float(np.mean(average_precisions(known, labels, judged, truth)))}
    _, who = neighbours(known, judged, min(max(ks), len(labels)))
    right = labels[np.asarray(who)] == truth[:, None]
    of_class = np.bincount(labels, minlength=1 + truth.max())[truth]
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
) -> Float[np.ndarray, "M"]:
    """The average precision of each test image's ranking of all training images, from 0 to 1.

    The mean, over the training images of its class, of the share of that class among all that are
    at least as similar; as scikit-learn's `average_precision_score`, also where similarities are
    equal. Every test image's class has a training image.
    """
    known = unit(jnp.asarray(train_features, jnp.float32))
    chunk = max(1, SIMILARITIES // len(known))
    found = []
    for first in range(0, len(test_features), chunk):
        judged = unit(jnp.asarray(test_features[first : first + chunk], jnp.float32))
        rows = np.asarray(similarity(judged, known))
        truth = test_labels[first : first + chunk]
        relevant = train_labels[None] == truth[:, None]
        found += [_average_precision(*pair) for pair in zip(rows, relevant, strict=True)]
    return np.array(found)


def _average_precision(
    similarities: Float32[np.ndarray, "N"], relevant: Bool[np.ndarray, "N"]
) -> float:
    # Sorted values are enough to count those as high, and far faster to get than an order.
    everything, own = np.sort(similarities), np.sort(similarities[relevant])
    as_high = len(everything) - np.searchsorted(everything, own)
    own_as_high = len(own) - np.searchsorted(own, own)
    return float(np.mean(own_as_high / as_high))
