"""A map of features: points in the plane whose neighbours are those of the feature space."""

import numpy as np
from absl import logging
from jaxtyping import Float

MOST = 5000  # points: t-SNE takes ten seconds for these, and more are hard to see
FEWEST = 5
COMPONENTS = 50  # that t-SNE starts from, as its authors do


def embedded(features: Float[np.ndarray, "N F"], seed: int = 0) -> Float[np.ndarray, "N 2"] | None:
    """t-SNE of the first principal components of features of unit length, from 0 to 1.

    van der Maaten and Hinton, 2008, "Visualizing Data using t-SNE"; scikit-learn's, which starts
    from two principal components and gives the same map each time. Perplexity 30.

    Args:
      features: at most MOST of them.
      seed: of what is random in it.

    Returns:
      None where there is nothing to see: fewer than FEWEST points, or all in one place.
    """
    from sklearn.decomposition import PCA  # a second, only for those who draw
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features / np.maximum(lengths, 1e-12)
    if len(features) < FEWEST or np.ptp(directions, axis=0).max() < 1e-5:
        return None
    components = min(COMPONENTS, *features.shape)
    reduced = PCA(components, random_state=seed).fit_transform(directions)
    if components == 1:
        reduced = np.concatenate([reduced, np.zeros_like(reduced)], axis=1)
    logging.info("t-SNE of %d points", len(features))
    perplexity = min(30.0, (len(features) - 1) / 3)
    # With all cores it is hardly faster, and seven times slower where other programs use some of
    # them: OpenMP's threads wait for each other in every iteration.
    with threadpool_limits(1, user_api="openmp"):
        points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - (low + high) / 2) / max(*(high - low), 1e-12) + 0.5
