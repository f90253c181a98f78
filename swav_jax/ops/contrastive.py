"""Contrastive losses: an embedding should be nearer to its own partner than to all others.

Each is a cross-entropy -log softmax over similarities, in which one candidate is the right one.
Negatives of InfoNCE come from a queue (van den Oord et al., 2018; He et al., 2020), those of
NT-Xent from the batch (Chen et al., 2020), those of ProtoNCE from the prototypes of other clusters
(Li et al., 2021).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from swav_jax.ops.precision import full_einsum
from swav_jax.ops.similarity import similarity


class Contrast(NamedTuple):
    """What each loss here returns."""

    loss: Float[Array, ""]
    accuracy: Float[Array, ""]  # how often the right candidate is the most similar one


def info_nce(
    queries: Float[Array, "B V D"],
    keys: Float[Array, "B D"],
    negatives: Float[Array, "L D"],
    *,
    temperature: float,
) -> Contrast:
    """Each query must find its image's key among L keys of other images.

    L = -mean_bv log(exp(q_bv . k_b / tau) / (exp(q_bv . k_b / tau) + sum_l exp(q_bv . n_l / tau)))
    (He et al., 2020, equation 1).

    Args:
      queries: V of each image, of unit length.
      keys: one of each image, of unit length.
      negatives: keys of other images, of unit length.
      temperature: tau.
    """
    right = _each(queries, keys) / temperature
    wrong = similarity(queries, negatives) / temperature
    nll = jnp.logaddexp(right, jax.nn.logsumexp(wrong, axis=-1)) - right
    found = right > jnp.max(wrong, axis=-1)
    return Contrast(jnp.mean(nll), jnp.mean(found, dtype=nll.dtype))


def nt_xent(
    embedding: Float[Array, "B V D"], *, temperature: float, sample_axes: Sequence[str] = ()
) -> Contrast:
    """Each crop must find every other crop of its image among all crops of other images.

    L = -mean_b mean_{v != w} log(e(bv, bw) / (e(bv, bw) + sum_{c != b} sum_u e(bv, cu))) with
    e(x, y) = exp(z_x . z_y / tau). With two crops this is equation 1 of Chen et al., 2020; with
    more, every ordered pair of an image's crops is a positive pair and an image's further crops
    are not negatives, as in the SwAV authors' library VISSL.

    Inside `jax.shard_map` each device passes the embeddings of its b images and the mesh axes over
    which images are spread. It gathers all embeddings, but of the similarities it holds only its
    own rows, b V times B V.

    Args:
      embedding: all crops of at least two images, of unit length.
      temperature: tau.
      sample_axes: mesh axes that the images are spread over.
    """
    own, crops = embedding.shape[:2]
    everyone = lax.all_gather(embedding, sample_axes, tiled=True)
    index = lax.axis_index(sample_axes) * own + jnp.arange(own)
    same_image = index[:, None] == jnp.arange(len(everyone))[None, :]
    scores = similarity(embedding, everyone.reshape(-1, everyone.shape[-1])) / temperature
    scores = scores.reshape(own, crops, *everyone.shape[:2])
    scores = jnp.where(same_image[:, None, :, None], -jnp.inf, scores)
    wrong = jax.nn.logsumexp(scores, axis=(2, 3))[..., None]
    hardest = jnp.max(scores, axis=(2, 3))[..., None]

    right = jax.vmap(similarity)(embedding, embedding) / temperature
    nll = jnp.logaddexp(right, wrong) - right
    pairs = ~jnp.eye(crops, dtype=bool)[None]
    count = len(everyone) * crops * (crops - 1)
    loss = lax.psum(jnp.sum(nll, where=pairs), sample_axes) / count
    found = lax.psum(jnp.sum(right > hardest, where=pairs, dtype=nll.dtype), sample_axes)
    return Contrast(loss, found / count)


def proto_nce(
    queries: Float[Array, "B V D"],
    prototypes: Float[Array, "K D"],
    densities: Float[Array, "K"],
    positives: Int[Array, "B"],
    negatives: Int[Array, "r"],
) -> Contrast:
    """Each query must find its image's prototype among those of the batch and r others.

    L = -mean_bv log(e(bv, s_b) / (sum_c e(bv, s_c) + sum_{k in negatives} e(bv, k))) with
    e(bv, k) = exp(q_bv . p_k / phi_k), where s_b is the cluster of image b (Li et al., 2021,
    equation 11, for one clustering; the candidates are those of the paper's published code). The
    prototypes of the batch's other images are negatives as well, even where two images share one.

    Args:
      queries: V of each image, of unit length.
      prototypes: cluster centroids of unit length.
      densities: phi, each prototype's own temperature, above 0.
      positives: the cluster of each image; images of cluster -1 are left out.
      negatives: numbers of other prototypes, see `sample_negatives`.
    """
    clustered = positives >= 0
    candidates = jnp.concatenate([positives, negatives])
    exists = jnp.concatenate([clustered, jnp.ones(negatives.shape, bool)])
    logits = similarity(queries, prototypes[candidates]) / densities[candidates][None, None, :]
    logits = jnp.where(exists[None, None, :], logits, -jnp.inf)
    right = _each(queries, prototypes[positives]) / densities[positives][:, None]
    counted = jnp.broadcast_to(clustered[:, None], right.shape)
    nll = jnp.where(counted, jax.nn.logsumexp(logits, axis=-1) - right, 0)

    own = positives[:, None, None] == candidates[None, None, :]
    found = counted & (right > jnp.max(jnp.where(own, -jnp.inf, logits), axis=-1))
    count = jnp.maximum(jnp.sum(counted, dtype=nll.dtype), 1)
    return Contrast(jnp.sum(nll) / count, jnp.sum(found, dtype=nll.dtype) / count)


def sample_negatives(
    key: Key[Array, ""], positives: Int[Array, "B"], clusters: int, number: int
) -> Int[Array, "r"]:
    """Draws r distinct clusters that the batch does not have, all such sets equally likely.

    Args:
      key: of the draw.
      positives: the batch's clusters; -1 for none.
      clusters: K; at least r more than there are different positives.
      number: r.
    """
    lots = jax.random.uniform(key, (clusters,))
    taken = jnp.where(positives < 0, clusters, positives)
    return lax.top_k(lots.at[taken].set(-1, mode="drop"), number)[1]


def _each(queries: Float[Array, "B V D"], partners: Float[Array, "B D"]) -> Float[Array, "B V"]:
    """Products of each image's queries with its own partner."""
    return full_einsum("bvd,bd->bv", queries, partners)
