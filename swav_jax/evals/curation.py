"""What of a data set is worth keeping: near-duplicates, outliers, a diverse subset.

All by cosine similarity of features; nothing knows of files. For duplicates and outliers these are
whitened first, so that one threshold fits all networks: in a network that was trained briefly any
two images have a cosine similarity of 0.99.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from swav_jax.evals.clusters import ITERATIONS, assign
from swav_jax.evals.knn import others
from swav_jax.ops.kmeans import kmeans, random_rows
from swav_jax.ops.similarity import unit
from swav_jax.ops.whitening import pca_whiten

COMPONENTS = 64  # that duplicates and outliers are looked for in, at most
CHAINED = 0.1  # share of the images in one group from which it looks like a chain
LARGEST = 10_000  # clusters of the lowest level of the hierarchy, at most
RESAMPLINGS, RESAMPLED = 3, 4  # of each level; images or centroids of each cluster
STARTS = 5  # of each k-means, of which the best counts


class Duplicates(NamedTuple):
    """Groups of near-duplicates among N images.

    Attributes:
      group: of each image, numbered by their first images; -1 for one that is like no other.
      similarity: of each image with the first of its group, which is kept; 1 for that itself.
      kept: the first of each group, and all images in none.
    """

    group: Int32[np.ndarray, "N"]
    similarity: Float32[np.ndarray, "N"]
    kept: Bool[np.ndarray, "N"]

    @property
    def chained(self) -> int:
        """How many images the largest group has if it looks like a chain of different ones, or 0.

        Then these are more alike than the threshold, which should be higher.
        """
        largest = int(np.bincount(self.group[self.group >= 0], minlength=1).max())
        return largest if largest > max(CHAINED * len(self.group), 10) else 0


class Outliers(NamedTuple):
    """Images without the duplicates of earlier ones, those that are least like any other first.

    Attributes:
      number: of the image.
      score: as `remoteness` gives it.
    """

    number: Int[np.ndarray, "n"]
    score: Float32[np.ndarray, "n"]


def duplicates_and_outliers(
    features: Float[np.ndarray, "N F"], neighbours: int, threshold: float
) -> tuple[Duplicates, Outliers]:
    """Which images are near-duplicates of others, and how far the rest are from each other.

    Args:
      features: of the images, not whitened yet.
      neighbours: of an image that are looked at.
      threshold: on the cosine similarity of whitened features.
    """
    compared = whitened(features)
    alike = near_duplicates(*others(compared, neighbours), compared, threshold)
    single = np.flatnonzero(alike.kept)
    # Copies are no company: an outlier stays one however often it is there.
    far = remoteness(others(compared[single], neighbours)[0])
    order = np.argsort(-far, kind="stable")
    return alike, Outliers(single[order], far[order])


def whitened(features: Float[np.ndarray, "N F"]) -> Float32[np.ndarray, "N C"]:
    """The leading principal components, scaled to unit variance, at most half of F and of N.

    In them different images are about orthogonal. Of 1,000 digits and small networks, the nearest
    of all pairs have a similarity of 0.97, and an image has one of 0.99 and more with itself when
    it was shrunk by a fifth and saved as JPEG; of CIFAR-10, one of 0.95 and more in 9 of 10 cases.
    Fewer than ten images stay as they are: they do not say what is common to all.
    """
    components = min(COMPONENTS, features.shape[1] // 2, len(features) // 2)
    if components < 5:
        return np.asarray(features, np.float32)
    return np.asarray(pca_whiten(jnp.asarray(features, jnp.float32), components))


def near_duplicates(
    nearest: Float32[np.ndarray, "N k"],
    who: Int32[np.ndarray, "N k"],
    features: Float[np.ndarray, "N F"],
    threshold: float,
) -> Duplicates:
    """The connected components of the graph of neighbours that are at least so similar.

    A group can be a chain, whose ends are less similar than the threshold.

    Args:
      nearest: the cosine similarities of each image's neighbours, of `others`.
      who: the neighbours.
      features: of the images.
      threshold: on the cosine similarity.
    """
    size = len(who)
    row, column = np.nonzero(nearest >= threshold)
    edges = coo_array((np.ones(len(row), bool), (row, who[row, column])), shape=(size, size))
    _, component = connected_components(edges, directed=False)
    _, first, counts = np.unique(component, return_index=True, return_counts=True)
    numbers = np.full(len(counts), -1, np.int32)
    several = np.flatnonzero(counts > 1)
    numbers[several[np.argsort(first[several])]] = np.arange(len(several))
    leader = first[component]
    group = numbers[component]
    similarity = np.ones(size, np.float32)
    like = np.flatnonzero(leader != np.arange(size))
    x, y = features[like].astype(np.float32), features[leader[like]].astype(np.float32)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    similarity[like] = np.sum(x * y, axis=1) / np.maximum(lengths, 1e-12)
    return Duplicates(group, similarity, leader == np.arange(size))


def remoteness(nearest: Float32[np.ndarray, "N m"]) -> Float32[np.ndarray, "N"]:
    """How far an image is from all others: 1 minus its mean similarity with its m neighbours.

    With m = 0 there are no others, and nothing is remote: 0.
    """
    if not nearest.shape[1]:
        return np.zeros(len(nearest), np.float32)
    return 1 - nearest.mean(axis=1)


def diverse_subset(
    features: Float[np.ndarray, "N F"], size: int, seed: int = 0
) -> Int[np.ndarray, "size"]:
    """Images that cover a data set evenly, however often it has the same: numbers in their order.

    The images are clustered, the centroids are clustered again, and so on (`hierarchy`); from the
    top the subset's places are divided as equally as the clusters' sizes allow (`even_shares`), and
    in the lowest clusters images are drawn at random: Vo et al., 2024, "Automatic Data Curation for
    Self-Supervised Learning: A Clustering-Based Approach", sections 3.2 and 3.3.

    Args:
      features: of the images, of any length.
      size: of the subset, at most N.
      seed: of the clusters and the draws.
    """
    levels = hierarchy(features, level_sizes(len(features)), seed)
    members = [_members(level) for level in levels]
    counts = [np.bincount(levels[0])]  # images below each cluster of each level
    for level in levels[1:]:
        counts.append(np.bincount(level, weights=counts[-1]).astype(np.int64))
    random = np.random.RandomState(seed)

    def draw(level: int, clusters: np.ndarray, total: int) -> np.ndarray:
        shares = even_shares(counts[level][clusters], total)
        drawn = [
            draw(level - 1, members[level][cluster], share)
            if level
            else random.choice(members[0][cluster], share, replace=False)
            for cluster, share in zip(clusters, shares, strict=True)
        ]
        return np.concatenate(drawn)

    return np.sort(draw(len(levels) - 1, np.arange(len(counts[-1])), size))


def _members(clusters: Int32[np.ndarray, "n"]) -> list[np.ndarray]:
    """The numbers of what is in each cluster; no cluster is empty."""
    order = np.argsort(clusters, kind="stable")
    return np.split(order, np.cumsum(np.bincount(clusters))[:-1])


def level_sizes(images: int) -> list[int]:
    """The clusters of each level, from the lowest: a tenth of what is clustered, while 2 are."""
    sizes = [min(max(images // 10, 1), LARGEST)]
    while sizes[-1] >= 20:
        sizes.append(sizes[-1] // 10)
    return sizes


def hierarchy(
    features: Float[np.ndarray, "N F"], sizes: Sequence[int], seed: int = 0
) -> list[Int32[np.ndarray, "n"]]:
    """Clusters of images, clusters of their centroids, and so on, by spherical k-means.

    K-means puts most centroids where most images are. So each level is clustered again, several
    times, from a few points of each cluster, those nearest to its centroid: then centroids spread
    over the data more evenly (resampling-clustering; Vo et al., 2024, section 3.2).

    Args:
      features: of the images, of any length.
      sizes: clusters of each level, from the lowest.
      seed: of the starts.

    Returns:
      for each level, the cluster of each image or of each cluster of the level below. Numbers have
      no gaps: clusters that are empty are dropped.
    """
    points = np.asarray(unit(jnp.asarray(features, jnp.float32)))
    levels = []
    for level, clusters in enumerate(sizes):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), level), 1 + RESAMPLINGS)
        centroids = _centroids(points, np.ones(len(points), bool), clusters, keys[0])
        for key in keys[1:]:
            near = np.flatnonzero(assign(points, centroids, 1.0).rank <= RESAMPLED)
            # Always as many rows, so that k-means is compiled once.
            rows = np.zeros(min(RESAMPLED * clusters, len(points)), np.int64)
            rows[: len(near)] = near
            centroids = _centroids(points[rows], np.arange(len(rows)) < len(near), clusters, key)
        used, assignment = np.unique(assign(points, centroids, 1.0).cluster, return_inverse=True)
        levels.append(assignment.astype(np.int32))
        points = centroids[used]
    return levels


def _centroids(
    points: Float32[np.ndarray, "n F"], valid: Bool[np.ndarray, "n"], clusters: int, key: jax.Array
) -> Float32[np.ndarray, "K F"]:
    x, there = jnp.asarray(points), jnp.asarray(valid)
    start, empty = jax.random.split(key)
    clusters = min(clusters, int(valid.sum()))
    init = random_rows(start, x, clusters, restarts=STARTS, valid=there)
    settings = {"iterations": ITERATIONS, "spherical": True, "split_empty": empty}
    return np.asarray(kmeans(x, init, valid=there, **settings).centroids)


def even_shares(sizes: Int[np.ndarray, "K"], total: int) -> Int[np.ndarray, "K"]:
    """Shares of a total that are as equal as the sizes allow: min(size, a level), but for rest.

    Args:
      sizes: the most that each can have.
      total: at most their sum.
    """
    shares = np.zeros(len(sizes), np.int64)
    for place, number in enumerate(np.argsort(sizes, kind="stable")):
        shares[number] = min(sizes[number], total // (len(sizes) - place))
        total -= shares[number]
    return shares
