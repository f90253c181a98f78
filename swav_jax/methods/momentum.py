"""A trained encoder and a slowly moving one whose embeddings it predicts.

He et al., 2020, "Momentum Contrast for Unsupervised Visual Representation Learning": one crop of
an image is embedded by the key encoder, the others are queries for the trained one. The key
encoder's parameters follow the trained ones; its batch-norm statistics are its own and stand in
`batch_stats` under "key_encoder".
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from swav_jax.models.encoder import Encoder

Crops = Sequence[Float[Array, "B n S S 3"]]

KEY_CROP = 1  # which of an image's crops the key encoder sees


class Views(NamedTuple):
    """Embeddings of unit length."""

    queries: Float[Array, "B Q D"]  # of all crops but the key's
    keys: Float[Array, "B D"]


def init(
    encoder: Encoder, key: Key[Array, ""], crops: Crops
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fresh parameters, which both encoders start from, and batch statistics of both."""
    variables = encoder.init(key, crops, train=True)
    batch_stats = variables["batch_stats"]
    return variables["params"], batch_stats | {"key_encoder": batch_stats}


def check(
    encoder: Encoder, queue_length: int, *, batch_size: int, views: int, images: int
) -> list[str]:
    """Refuses (ValueError) what cannot work with a queue of keys, and returns warnings."""
    if views < 2:
        raise ValueError("A crop has to find another one of its image: data.crops must cut two.")
    if queue_length < 1 or queue_length % batch_size:
        raise ValueError(
            f"method.queue_length {queue_length} is not a multiple of data.batch_size "
            f"{batch_size}: whole batches enter and leave the queue. Try "
            f"{round(queue_length / batch_size) * batch_size or batch_size}."
        )
    warnings = []
    if queue_length > images // 2:
        warnings.append(
            f"method.queue_length {queue_length} keys of {images} images: an image often finds its "
            f"own older keys among the negatives. Try {max(images // 4 // batch_size, 1)} batches, "
            f"{max(images // 4 // batch_size, 1) * batch_size}."
        )
    if encoder.head.bn_groups > 1:
        warnings.append(
            "With model.bn_groups above 1 a query and its key share the batch-norm statistics of "
            "few images, by which they can be matched without looking at the image."
        )
    return warnings


def moving_average(slow: PyTree, fast: PyTree, momentum: float) -> PyTree:
    """Momentum * slow + (1 - momentum) * fast, leaf by leaf."""
    return jax.tree.map(lambda s, f: momentum * s + (1 - momentum) * f, slow, fast)


def embed(
    encoder: Encoder,
    params: dict[str, Any],
    key_params: dict[str, Any],
    batch_stats: dict[str, Any],
    crops: Crops,
) -> tuple[Views, dict[str, Any]]:
    """Both encoders' work on a batch in training: embeddings and new batch statistics."""
    statistics = {name: tree for name, tree in batch_stats.items() if name != "key_encoder"}
    query_crops, key_crops = split(crops)
    queries, updates = encoder.apply(
        {"params": params, "batch_stats": statistics},
        query_crops,
        train=True,
        mutable=["batch_stats"],
    )
    keys, key_updates = encoder.apply(
        {"params": key_params, "batch_stats": batch_stats["key_encoder"]},
        key_crops,
        train=True,
        mutable=["batch_stats"],
    )
    statistics = updates["batch_stats"] | {"key_encoder": key_updates["batch_stats"]}
    return Views(queries, keys[:, 0]), statistics


def embed_evaluated(
    encoder: Encoder, key_params: dict[str, Any], batch_stats: dict[str, Any], crops: Crops
) -> Float[Array, "B V D"]:
    """The key encoder's embeddings in evaluation mode, by its running statistics."""
    variables = {"params": key_params, "batch_stats": batch_stats["key_encoder"]}
    embedding: Any = encoder.apply(variables, crops, train=False)
    return embedding


def split(crops: Crops) -> tuple[list[Float[Array, "B n S S 3"]], list[Float[Array, "B 1 S S 3"]]]:
    """The crops for queries and the one for the key."""
    queries, keys, first = [], [], 0
    for images in crops:
        position = KEY_CROP - first
        first += images.shape[1]
        if 0 <= position < images.shape[1]:
            keys.append(images[:, position : position + 1])
            images = jnp.delete(images, position, axis=1, assume_unique_indices=True)
        if images.shape[1]:
            queries.append(images)
    return queries, keys
