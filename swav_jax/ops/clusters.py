"""The sizes of clusters, and an order of images that evens them out."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def usage(assignments: Int[Array, "H N"], clusters: int) -> dict[str, Float[Array, ""]]:
    """How evenly the clusters are used, as means over H clusterings.

    Returns:
      clusters_used: share of the K clusters that have an image.
      largest_cluster: share of the assigned images that are in the largest one.
    """

    def sizes(assignments: Int[Array, "N"]) -> Int[Array, "K"]:
        members = jnp.where(assignments < 0, clusters, assignments)  # the sums leave out cluster K
        return jax.ops.segment_sum(jnp.ones_like(members), members, clusters)

    counts = jax.vmap(sizes)(assignments)
    total = jnp.maximum(jnp.sum(counts, axis=1, dtype=counts.dtype), 1)
    return {
        "clusters_used": jnp.mean(counts > 0),
        "largest_cluster": jnp.mean(jnp.max(counts, axis=1) / total),
    }


def balanced_order(
    assignments: Int[np.ndarray, "N"], samples: int, random: np.random.RandomState
) -> Int[np.ndarray, "samples"]:
    """Images drawn uniformly over clusters, in random order, on the host.

    Every cluster that has images is drawn equally often, to within one. Within a cluster every
    image is drawn equally often, to within one: a small cluster's images come repeatedly, a large
    one's not all. Images without a cluster (-1) are not drawn.
    """
    order = random.permutation(np.flatnonzero(assignments >= 0))
    order = order[np.argsort(assignments[order], kind="stable")]
    _, starts, counts = np.unique(assignments[order], return_index=True, return_counts=True)
    rounds = np.arange(-(-samples // len(counts)))[:, None]
    drawn = order[starts + rounds % counts]  # [rounds, clusters]
    drawn[-1] = random.permutation(drawn[-1])  # the last round may not be drawn to its end
    return random.permutation(drawn.reshape(-1)[:samples])
