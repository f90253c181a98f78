"""A linear classifier on backbone features: what DeepCluster and supervised training share."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from swav_jax.methods.contract import BatchStats, Crops, Params
from swav_jax.models.encoder import Encoder
from swav_jax.ops.precision import at_least_float32, full_einsum


def fresh(key: Key[Array, ""], features: int, classes: int, dtype: DTypeLike) -> Params:
    """Weights `kernel` [F, K] from N(0, 0.01^2), and `bias` [K], zeros."""
    kernel = 0.01 * jax.random.normal(key, (features, classes), dtype)
    return {"kernel": kernel, "bias": jnp.zeros(classes, dtype)}


def features_of(
    encoder: Encoder, params: Params, batch_stats: BatchStats, crops: Crops, *, train: bool = True
) -> tuple[Float[Array, "B V F"], BatchStats]:
    """Backbone features of all crops, one pass for each entry of `crops`, and new statistics.

    Args:
      encoder: whose head is not used.
      params: of the backbone at least.
      batch_stats: of the backbone.
      crops: of a batch.
      train: whether batch norm takes the batch's statistics.
    """
    features = []
    for images in crops:
        merged, updates = encoder.apply(
            {"params": params, "batch_stats": batch_stats},
            images.reshape(-1, *images.shape[2:]),
            train=train,
            method="features",
            mutable=["batch_stats"],
        )
        features.append(merged.reshape(*images.shape[:2], -1))
        batch_stats = updates["batch_stats"]
    return jnp.concatenate(features, axis=1), batch_stats


def logits(classifier: Params, features: Float[Array, "B V F"]) -> Float[Array, "B V K"]:
    """W f + b in at least float32."""
    features = features.astype(at_least_float32(features.dtype))
    products = full_einsum("bvf,fk->bvk", features, classifier["kernel"])
    return products + classifier["bias"][None, None, :]
