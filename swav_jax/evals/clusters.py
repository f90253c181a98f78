"""The clusters of images: by scores of given prototypes, evenly by Sinkhorn, or by k-means."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

from swav_jax.ops.kmeans import kmeans, random_rows
from swav_jax.ops.similarity import similarity, unit
from swav_jax.ops.sinkhorn import sinkhorn

SCORES = 2**25  # held at once: 128 MB in float32
ITERATIONS = 20  # of k-means

Weights = Float[np.ndarray, "K"] | Float[Array, "K"] | float


class Clusters(NamedTuple):
    """The clusters of N images among K.

    Attributes:
      cluster: of the largest score, or code.
      score: of the image for its cluster: its cosine similarity with a prototype, for example.
      second_cluster: of the next score or code; -1 if K is 1.
      entropy: in nats, of softmax(scores / temperature) or of the code: 0 for an image that is sure
        of its cluster, ln K for one that is equally near to all.
      rank: in its cluster by score, from 1 for the largest; of equal ones the earlier is first.
    """

    cluster: Int32[np.ndarray, "N"]
    score: Float32[np.ndarray, "N"]
    second_cluster: Int32[np.ndarray, "N"]
    entropy: Float32[np.ndarray, "N"]
    rank: Int32[np.ndarray, "N"]


def assign(
    rows: Float[np.ndarray, "N F"],
    directions: Float[np.ndarray, "K F"] | Float[Array, "K F"],
    temperature: Weights,
    bias: Weights = 0.0,
) -> Clusters:
    """The clusters of the largest scores rows W^T + b.

    The rows pass through the device in pieces, so that the N x K scores never exist at once.

    Args:
      rows: of the images; of unit length for cosine similarities.
      directions: W, the K prototypes.
      temperature: of the probabilities whose entropy is taken; one, or one for each cluster.
      bias: b; one, or one for each cluster.
    """
    clusters = len(directions)
    piece = max(1, SCORES // clusters)
    weights = [jnp.asarray(directions, jnp.float32)]
    weights += [jnp.broadcast_to(jnp.float32(x), clusters) for x in (bias, temperature)]
    found = [
        jax.device_get(_two_best(jnp.asarray(rows[first : first + piece], jnp.float32), *weights))
        for first in range(0, len(rows), piece)
    ]
    return _ranked(*map(np.concatenate, zip(*found, strict=True)))


def assign_evenly(
    rows: Float[np.ndarray, "N F"],
    directions: Float[np.ndarray, "K F"] | Float[Array, "K F"],
    *,
    epsilon: float,
    iterations: int,
) -> Clusters:
    """The clusters of the largest Sinkhorn codes, which use all K equally over the N images.

    The N x K scores are held at once.

    Args:
      rows: of unit length.
      directions: the prototypes, of unit length.
      epsilon: of `ops.sinkhorn`.
      iterations: of `ops.sinkhorn`; many more than in training make the clusters equally large.
    """
    x, prototypes = jnp.asarray(rows, jnp.float32), jnp.asarray(directions, jnp.float32)
    found = _two_best_codes(x, prototypes, epsilon=epsilon, iterations=iterations)
    return _ranked(*jax.device_get(found))


def assign_by_kmeans(
    rows: Float[np.ndarray, "N F"], clusters: int, *, temperature: float, seed: int = 0
) -> Clusters:
    """The clusters of spherical k-means; the same for the same seed.

    Args:
      rows: of the images, of any length; scores are cosine similarities.
      clusters: K.
      temperature: of the probabilities whose entropy is taken.
      seed: of the start, and of the places where centroids without an image move.

    Raises:
      ValueError: there are fewer rows than clusters.
    """
    x = unit(jnp.asarray(rows, jnp.float32))
    start, empty = jax.random.split(jax.random.key(seed))
    init = random_rows(start, x, clusters)
    found = kmeans(x, init, iterations=ITERATIONS, spherical=True, split_empty=empty)
    return assign(np.asarray(x), found.centroids, temperature)


def _ranked(
    best: np.ndarray, score: np.ndarray, second: np.ndarray, entropy: np.ndarray
) -> Clusters:
    order = np.lexsort((-score, best))  # stable: of equal scores the earlier image
    _, sizes = np.unique(best, return_counts=True)
    rank = np.empty(len(best), np.int32)
    rank[order] = np.concatenate([np.arange(1, size + 1, dtype=np.int32) for size in sizes])
    return Clusters(best, score, second, entropy, rank)


@jax.jit
def _two_best(
    x: Float32[Array, "n F"],
    directions: Float32[Array, "K F"],
    bias: Float32[Array, "K"],
    temperature: Float32[Array, "K"],
) -> tuple[Int32[Array, "n"], Float32[Array, "n"], Int32[Array, "n"], Float32[Array, "n"]]:
    """The best cluster, its score, the second one, and the entropy."""
    scores = similarity(x, directions) + bias[None, :]
    log_p = jax.nn.log_softmax(scores / temperature[None, :])
    return *_first_two(scores, scores), -jnp.sum(jnp.exp(log_p) * log_p, axis=1)


@partial(jax.jit, static_argnames=("epsilon", "iterations"))
def _two_best_codes(
    x: Float32[Array, "N F"],
    prototypes: Float32[Array, "K F"],
    *,
    epsilon: float,
    iterations: int,
) -> tuple[Int32[Array, "N"], Float32[Array, "N"], Int32[Array, "N"], Float32[Array, "N"]]:
    """The same of codes; the score is that of the cluster."""
    scores = similarity(x, prototypes)
    codes, _ = sinkhorn(scores, epsilon=epsilon, iterations=iterations)
    return *_first_two(codes, scores), jnp.sum(jax.scipy.special.entr(codes), axis=1)


def _first_two(
    values: Float32[Array, "n K"], scores: Float32[Array, "n K"]
) -> tuple[Int32[Array, "n"], Float32[Array, "n"], Int32[Array, "n"]]:
    """The clusters of the two largest values; the score of the first."""
    _, two = jax.lax.top_k(values, min(2, values.shape[1]))
    first = two[:, 0]
    score = jnp.take_along_axis(scores, first[:, None], axis=1)[:, 0]
    second = two[:, 1] if two.shape[1] > 1 else jnp.full_like(first, -1)
    return first, score, second
