"""Weighted nearest neighbours: how well a training set's labels carry over to test images.

The k training images most similar to a test image vote for their classes, each with the weight
exp(cosine similarity / temperature) (Wu et al., 2018; the protocol of Caron et al., 2021).
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from swav_jax.ops.similarity import similarity, unit

SIMILARITIES = 2**25  # held at once: 128 MB in float32
NEVER = np.iinfo(np.int32).max


def knn_accuracy(
    train_features: Float[np.ndarray, "N F"],
    train_labels: Int[np.ndarray, "N"],
    test_features: Float[np.ndarray, "M F"],
    test_labels: Int[np.ndarray, "M"],
    *,
    ks: Sequence[int] = (20, 200),
    temperature: float = 0.07,
) -> dict[int, dict[str, float]]:
    """Top-1 and top-5 accuracy in percent, for each number of neighbours.

    Of equally similar training images the earlier ones are neighbours, and of classes with equal
    votes the lower one is taken. A class without any vote is never among the five.

    Args:
      train_features: of the images that vote; any length, any float type.
      train_labels: their classes, from 0.
      test_features: of the images to classify.
      test_labels: their classes.
      ks: numbers of neighbours; more than N means all N.
      temperature: of the votes' weights.

    Returns:
      for each of `ks`: `top1`, `top5`, and `k`, the neighbours there really were.
    """
    used = tuple(min(k, len(train_features)) for k in ks)
    ranks = _ranks(
        jnp.asarray(train_features, jnp.float32),
        jnp.asarray(train_labels, jnp.int32),
        jnp.asarray(test_features, jnp.float32),
        jnp.asarray(test_labels, jnp.int32),
        temperature,
        ks=used,
        classes=1 + int(max(np.max(train_labels), np.max(test_labels))),
    )
    return {
        k: {
            "k": neighbours,
            "top1": 100 * float(np.mean(rank < 1)),
            "top5": 100 * float(np.mean(rank < 5)),
        }
        for k, neighbours, rank in zip(ks, used, np.asarray(ranks).T, strict=True)
    }


@partial(jax.jit, static_argnames=("ks", "classes"))
def _ranks(
    train: Float[Array, "N F"],
    train_labels: Int[Array, "N"],
    test: Float[Array, "M F"],
    test_labels: Int[Array, "M"],
    temperature: float,
    *,
    ks: tuple[int, ...],
    classes: int,
) -> Int[Array, "M ks"]:
    """How many classes come before the true one, `NEVER` if it has no vote."""
    train = unit(train)

    def ranks_of_one(sample: tuple[Array, Array]) -> Int[Array, "ks"]:
        feature, truth = sample
        nearest, who = lax.top_k(similarity(unit(feature), train), max(ks))
        # Weights relative to the nearest one's: the same votes, and no temperature overflows.
        weights = jnp.exp((nearest - nearest[0]) / temperature)
        labels = train_labels[who]
        ranks = []
        for k in ks:
            votes = jnp.zeros(classes, weights.dtype).at[labels[:k]].add(weights[:k])
            before = jnp.arange(classes) < truth
            ahead = (votes > votes[truth]) | ((votes == votes[truth]) & before)
            ranks.append(jnp.where(votes[truth] > 0, jnp.sum(ahead, dtype=jnp.int32), NEVER))
        return jnp.stack(ranks)

    chunk = max(1, SIMILARITIES // len(train))
    return lax.map(ranks_of_one, (test, test_labels), batch_size=min(chunk, len(test)))
