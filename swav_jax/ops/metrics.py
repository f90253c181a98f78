"""Numbers that show whether clusters and embeddings are healthy."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

# Name of the metric: which leaf of (params, batch_stats, gradients, params after the step) is the
# first that is not finite. Forward before backward, and within each by layers.
FIRST_BAD = "first_bad"


@jax.named_scope("metrics")
def code_statistics(codes: Float[Array, "A B K"]) -> dict[str, Float[Array, ""]]:
    """How sharp the codes are and how many prototypes they use.

    Returns:
      code_entropy: mean entropy of a sample's code in nats; 0 is one-hot, ln K says nothing.
      largest_code: mean weight of a sample's first prototype.
      prototypes_used: share of the K prototypes that are some sample's first choice.
    """
    prototypes = codes.shape[-1]
    log_codes = jnp.log(jnp.maximum(codes, jnp.finfo(codes.dtype).tiny))
    first = jnp.argmax(codes, axis=-1).reshape(-1)
    used = jnp.zeros(prototypes, bool).at[first].set(True)
    return {
        "code_entropy": -jnp.mean(jnp.sum(codes * log_codes, axis=-1)),
        "largest_code": jnp.mean(jnp.max(codes, axis=-1)),
        "prototypes_used": jnp.mean(used, dtype=codes.dtype),
    }


@jax.named_scope("metrics")
def embedding_std(embedding: Float[Array, "B D"]) -> Float[Array, ""]:
    """Spread of unit-length embeddings over a batch: 0 is one point, 1 an even spread.

    The standard deviation over the batch, averaged over dimensions, times sqrt(D).
    """
    return jnp.mean(jnp.std(embedding, axis=0)) * embedding.shape[-1] ** 0.5


@jax.named_scope("metrics")
def alignment(crop: Float[Array, "B D"], others: Float[Array, "B V D"]) -> Float[Array, ""]:
    """How far an image's crops are apart: 0 is one point, 2 is unrelated; NaN without others.

    The mean squared distance of a crop's unit-length embedding from those of the other crops: Wang
    & Isola, 2020, "Understanding contrastive representation learning through alignment and
    uniformity on the hypersphere", section 4.1.1, with alpha = 2.
    """
    return jnp.mean(jnp.sum(jnp.square(others - crop[:, None]), axis=-1))


@jax.named_scope("metrics")
def norms(params: PyTree, gradients: PyTree, moved: PyTree) -> dict[str, Float[Array, ""]]:
    """Euclidean norms over all parameters, of a step from `params` to `moved`.

    Returns:
      gradient_norm: of the gradients.
      parameter_norm: of the parameters after the step.
      update_norm: of the step; over `parameter_norm` it says how fast the network turns.
    """
    return {
        "gradient_norm": optax.tree.norm(gradients),
        "parameter_norm": optax.tree.norm(moved),
        "update_norm": optax.tree.norm(optax.tree.sub(moved, params)),
    }


@jax.named_scope("metrics")
def first_nonfinite(tree: PyTree) -> Int[Array, ""]:
    """The place, among the tree's leaves, of the first that holds a NaN or an infinity; or -1."""

    def bad_numbers(leaf: Array) -> Float[Array, ""]:
        # A sum of floats: a TPU takes it together with those of `norms`, where `all` reads again.
        return jnp.sum(~jnp.isfinite(leaf), dtype=jnp.float32)

    bad = jnp.stack([bad_numbers(leaf) for leaf in jax.tree.leaves(tree)]) > 0
    return jnp.where(jnp.any(bad), jnp.argmax(bad), -1)
