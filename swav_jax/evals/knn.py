"""Weighted nearest neighbours: how well a training set's labels carry over to test images.

The k training images most similar to a test image vote for their classes, each with the weight
exp(cosine similarity / temperature) (Wu et al., 2018; the protocol of Caron et al., 2021).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32, Int, Int32

from swav_jax.evals.labelled import Images, by_others, labelled, readable_pair
from swav_jax.ops.similarity import similarity, unit

PIECE = 2**26  # numbers of a piece of the training features: 256 MB in float32
SIMILARITIES = 2**25  # held at once: 128 MB in float32
NEVER = np.iinfo(np.int32).max


def knn(
    features: Callable[[Images], Float32[np.ndarray, "N F"]],
    train: Images,
    test: Images,
    *,
    ks: Sequence[int] = (20, 200),
    temperature: float = 0.07,
) -> dict[str, float] | None:
    """Weighted k-NN of a network's features.

    Args:
      features: of all of some images; NO_FEATURES for one that cannot be read.
      train: the images of which those with a label vote.
      test: the images of which those with a label are classified; `train` itself for leave-one-out,
        where all others vote for each.
      ks: numbers of neighbours.
      temperature: of the votes' weights.

    Returns:
      `top1` and `top5` in percent and `k` for the first of `ks`, `k<k>_top1` for each further one,
      and how many `train_images` voted and `test_images` were classified; None without any.
    """
    pair = labelled(train, test)
    if pair is None:
        return None
    if test is train:
        known, labels, judged = by_others(features(pair[0]), pair[0])
        truth = labels[judged]
        nearest, who = (values[judged] for values in others(known, max(ks)))
    else:
        known, labels, unseen, truth = readable_pair(features, pair)
        nearest, who = neighbours(known, unseen, max(ks))
    by_k = accuracies(nearest, who, labels, truth, ks=ks, temperature=temperature)
    first, *_ = by_k.values()
    return (
        first
        | {f"k{k}_top1": scores["top1"] for k, scores in [*by_k.items()][1:]}
        | {"train_images": len(labels), "test_images": len(truth)}
    )


def knn_protocol(ks: Sequence[int], temperature: float) -> str:
    """What k-NN accuracies are of, in a line."""
    numbers = " and ".join(map(str, ks))
    return f"weighted votes of {numbers} neighbours, temperature {temperature:g}, pooled features"


def accuracies(
    nearest: Float32[Any, "M k"],
    who: Int32[Any, "M k"],
    train_labels: Int[np.ndarray, "N"],
    test_labels: Int[np.ndarray, "M"],
    *,
    ks: Sequence[int],
    temperature: float,
) -> dict[int, dict[str, float]]:
    """Top-1 and top-5 accuracy in percent, for each number of neighbours.

    Of classes with equal votes the lower one is taken. A class without any vote is never among the
    five.

    Args:
      nearest: cosine similarities of the neighbours of each test image, the nearest first.
      who: their numbers.
      train_labels: classes of the images that vote, from 0.
      test_labels: classes of the test images.
      ks: numbers of neighbours; of more than there are, all vote.
      temperature: of the votes' weights.

    Returns:
      for each of `ks`: `top1`, `top5`, and `k`, the number of neighbours that voted.
    """
    used = {k: min(k, who.shape[1]) for k in ks}
    ranks = _ranks(
        jnp.asarray(nearest),
        jnp.asarray(train_labels, jnp.int32)[who],
        jnp.asarray(test_labels, jnp.int32),
        temperature,
        ks=tuple(used.values()),
        classes=1 + int(max(np.max(train_labels), np.max(test_labels))),
    )
    return {
        k: {
            "top1": 100 * float(np.mean(rank < 1)),
            "top5": 100 * float(np.mean(rank < 5)),
            "k": number,
        }
        for (k, number), rank in zip(used.items(), np.asarray(ranks).T, strict=True)
    }


def neighbours(
    train: Float[np.ndarray, "N F"], test: Float[np.ndarray, "M F"], k: int
) -> tuple[Float32[Array, "M m"], Int32[Array, "M m"]]:
    """The most similar training rows of each test row: (cosine, number), m = min(k, N).

    The nearest is first; of equally similar ones, the one with the lower number.

    The training rows stay on the host and pass through the devices in pieces: ImageNet's are 10 GB.
    """
    rows = max(k, PIECE // train.shape[1])
    queries = unit(jnp.asarray(test, jnp.float32))
    shape = len(test), min(k, len(train))
    best = jnp.full(shape, -jnp.inf, jnp.float32), jnp.zeros(shape, jnp.int32)
    for first in range(0, len(train), rows):
        piece = np.asarray(train[first : first + rows], np.float32)
        best = _merge(*best, queries, piece, jnp.int32(first))
    return best


def others(
    features: Float[np.ndarray, "N F"], k: int
) -> tuple[Float32[np.ndarray, "N m"], Int32[np.ndarray, "N m"]]:
    """The k most similar other images of each: (cosine, number), m = min(k, N - 1), nearest first.

    Args:
      features: of the images, of any length.
      k: how many.
    """
    size = len(features)
    nearest, who = jax.device_get(neighbours(features, features, k + 1))
    # Itself is among them, but for more exact copies before it than there is room for.
    itself = who == np.arange(size)[:, None]
    itself[~itself.any(axis=1), -1] = True
    return tuple(values[~itself].reshape(size, -1) for values in (nearest, who))


@jax.jit
def _merge(
    nearest: Float32[Array, "M k"],
    who: Int32[Array, "M k"],
    test: Float32[Array, "M F"],
    piece: Float32[Array, "n F"],
    first: Int32[Array, ""],
) -> tuple[Float32[Array, "M k"], Int32[Array, "M k"]]:
    """The nearest of those known and of a piece of the training rows that starts at `first`."""
    piece = unit(piece)
    numbers = first + jnp.arange(len(piece), dtype=jnp.int32)

    def merge_one(row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        known, known_who, feature = row
        both = jnp.concatenate([known, similarity(feature, piece)])
        best, place = lax.top_k(both, len(known))  # of equal ones those that come first
        return best, jnp.concatenate([known_who, numbers])[place]

    chunk = max(1, SIMILARITIES // len(piece))
    return lax.map(merge_one, (nearest, who, test), batch_size=min(chunk, len(test)))


@partial(jax.jit, static_argnames=("ks", "classes"))
def _ranks(
    nearest: Float32[Array, "M k"],
    labels: Int32[Array, "M k"],
    truth: Int32[Array, "M"],
    temperature: float,
    *,
    ks: tuple[int, ...],
    classes: int,
) -> Int32[Array, "M ks"]:
    """How many classes come before the true one, `NEVER` if it has no vote."""

    def ranks_of_one(sample: tuple[Array, Array, Array]) -> Int32[Array, "ks"]:
        nearest, labels, truth = sample
        # Weights relative to the nearest one's: the same votes, and no temperature overflows.
        weights = jnp.exp((nearest - nearest[0]) / temperature)
        ranks = []
        for k in ks:
            votes = jnp.zeros(classes, weights.dtype).at[labels[:k]].add(weights[:k])
            before = jnp.arange(classes) < truth
            ahead = (votes > votes[truth]) | ((votes == votes[truth]) & before)
            ranks.append(jnp.where(votes[truth] > 0, jnp.sum(ahead, dtype=jnp.int32), NEVER))
        return jnp.stack(ranks)

    return lax.map(ranks_of_one, (nearest, labels, truth), batch_size=min(1024, len(truth)))
