"""How often a classifier is right, on one centre crop of each test image."""

import numpy as np
from jaxtyping import Float, Int, PyTree

from swav_jax.data.sources.source import DataError
from swav_jax.evals.features import Apply, of_images
from swav_jax.evals.labelled import Images, composed, labelled, readable


def classify(
    apply: Apply, variables: PyTree, train: Images, test: Images | None
) -> dict[str, float] | None:
    """Accuracies of a classifier on the test images that have a label.

    Args:
      apply: from (variables, normalised images) to the scores of K classes [B, K], in the order of
        the training images' class names; compiled once for each function.
      variables: the network's.
      train: the images that the classifier was trained on.
      test: the images to classify, if there are any.

    Returns:
      `top1` and `top5` in percent, and how many `test_images` were classified; None without any.

    Raises:
      DataError: none of them can be read.
    """
    pair = labelled(train, test) if test else None
    if pair is None:
        return None
    judged = pair[1]
    column = {composed(name): i for i, name in enumerate(train.source.class_names)}
    columns = np.array([column[name] for name in judged.source.class_names])
    scores, labels = readable(of_images(apply, variables, judged), judged)
    if not len(labels):
        raise DataError(f"no test image with a label can be read, of {judged.source}")
    return accuracies(scores, columns[labels]) | {"test_images": len(labels)}


def accuracies(scores: Float[np.ndarray, "M K"], labels: Int[np.ndarray, "M"]) -> dict[str, float]:
    """Top-1 and top-5 accuracy in percent; of classes with equal scores the lower one is first.

    Args:
      scores: of all classes, for each image.
      labels: the classes, from 0 to K - 1.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = np.arange(scores.shape[1])[None] < labels[:, None]
    rank = np.sum((scores > own) | ((scores == own) & before), axis=1)
    return {f"top{k}": 100 * float(np.mean(rank < k)) for k in (1, 5)}
