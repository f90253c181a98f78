"""Losses of predicting what an image is assigned to: soft codes, or one cluster.

Each is a cross-entropy with softmax_k(s / tau), averaged over the crops of a batch.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from swav_jax.ops.precision import full_einsum
from swav_jax.ops.similarity import similarity


def swapped_prediction(
    scores: Float[Array, "B V K"],
    codes: Float[Array, "A B K"],
    assignment_crops: Sequence[int],
    temperature: float,
) -> Float[Array, ""]:
    """Cross-entropy between each assignment crop's codes and every other crop's prediction.

    L = 1/A sum_a 1/(V-1) sum_{v != a} mean_b -sum_k q_bk^(a) log softmax_k(s_b^(v) / tau)
    (Caron et al., 2020, equation 2 summed over multi-crop, section 3.3).

    Args:
      scores: similarities of every crop to the prototypes.
      codes: targets from the assignment crops; no gradient should flow into them.
      assignment_crops: which of the V crops the A codes belong to.
      temperature: tau.
    """
    log_p = jax.nn.log_softmax(scores / temperature, axis=-1)
    batch, crops = scores.shape[:2]
    agreement = full_einsum("abk,bvk->av", codes, log_p) / batch
    others = jnp.arange(crops)[None, :] != jnp.asarray(assignment_crops)[:, None]
    return -jnp.sum(agreement, where=others) / (len(assignment_crops) * (crops - 1))


def cluster_prediction(
    embedding: Float[Array, "B V D"],
    prototypes: Sequence[Float[Array, "K D"]],
    assignments: Int[Array, "H B"],
    temperature: float,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """`cross_entropy` of softmax_k(z . c_k / tau) for H sets of prototypes, and its average.

    Returns:
      the loss, and the metrics cluster_accuracy and seen, the share of images that have a cluster.
    """
    each = [
        cross_entropy(similarity(embedding, centroids) / temperature, clusters)
        for centroids, clusters in zip(prototypes, assignments, strict=True)
    ]
    loss, accuracy = (jnp.mean(jnp.stack(values)) for values in zip(*each, strict=True))
    seen = jnp.mean(assignments >= 0, dtype=loss.dtype)
    return loss, {"cluster_accuracy": accuracy, "seen": seen}


def cross_entropy(
    logits: Float[Array, "B V K"], assignments: Int[Array, "B"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross-entropy of every crop's prediction with the cluster of its image.

    L = mean over seen b and over v of -log softmax_k(logits_bvk) at k = assignment of b.

    Args:
      logits: of all crops of a batch.
      assignments: the images' clusters; -1 for an image without one, which is left out.

    Returns:
      the loss and the share of crops for which the largest logit is the right one; 0 and 0 if no
      image has a cluster.
    """
    seen = (assignments >= 0)[:, None]
    clusters = jnp.arange(logits.shape[-1], dtype=assignments.dtype)
    right = clusters[None, None, :] == assignments[:, None, None]
    # A sum over the one right cluster instead of a gather: clusters may be spread over devices.
    log_p = jnp.sum(jax.nn.log_softmax(logits, axis=-1), axis=-1, where=right)
    hit = lax.argmax(logits, 2, assignments.dtype) == assignments[:, None]
    crops = jnp.maximum(jnp.sum(seen, dtype=log_p.dtype) * logits.shape[1], 1)
    return -jnp.sum(log_p, where=seen) / crops, jnp.sum(hit & seen, dtype=log_p.dtype) / crops
