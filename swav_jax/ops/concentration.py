"""How widely the members of each cluster are spread; PCL divides a prototype's logits by it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def concentration(
    distances: Float[Array, "N"],
    assignments: Int[Array, "N"],
    clusters: int,
    *,
    temperature: float,
    alpha: float = 10,
) -> Float[Array, "K"]:
    """The concentration phi of each cluster: small where many members are close together.

    phi_k = sum_i |x_i - c_k| / (n_k log(n_k + alpha)) over the n_k members of cluster k (Li et al.,
    Prototypical Contrastive Learning of Unsupervised Representations, 2021, section 3.3). Then, as
    in the paper's published code: a cluster of at most one member gets the largest phi of all, and
    the values are clipped to their 10th and 90th percentile and scaled to the mean `temperature`.

    Args:
      distances: squared L2 to the centroids that k-means found, before those are normalised.
      assignments: the cluster of each row; -1 for none.
      clusters: K.
      temperature: the mean of phi.
      alpha: keeps small clusters from getting a very large phi.
    """
    members = jnp.where(assignments < 0, clusters, assignments)  # sums leave out cluster K
    counts = jax.ops.segment_sum(jnp.ones_like(distances), members, clusters)
    lengths = jax.ops.segment_sum(jnp.sqrt(distances), members, clusters)
    phi = lengths / (jnp.maximum(counts, 1) * jnp.log(counts + alpha))
    phi = jnp.where(counts > 1, phi, jnp.max(phi, where=counts > 1, initial=0))
    low, high = jnp.percentile(phi, jnp.array([10, 90], phi.dtype))
    phi = jnp.clip(phi, jnp.maximum(low, 1e-12), jnp.maximum(high, 1e-12))
    return phi * (temperature / jnp.mean(phi))
