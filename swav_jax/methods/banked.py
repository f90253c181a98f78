"""What DeepCluster-v2 and SeLa-v2 share: clusters of remembered embeddings, predicted by all crops.

A bank remembers the embedding z of each assignment crop of each image. Before the first clustering,
one pass in train mode without an optimiser fills it, on all crops as training does, so that batch
norm sees what it will see (the reference passes each assignment crop alone). Then it takes the
embeddings that training computes anyway. Head h has the clusters of bank h mod A. Images left over
from an epoch's last batch have no cluster before they are drawn, and no part in the loss.
"""

import dataclasses
from typing import Any, Protocol

import jax
from jax import lax
from jaxtyping import Array, Float, Int

from swav_jax.methods import contract
from swav_jax.models.encoder import Encoder, embed, init_with_prototypes
from swav_jax.ops import bank
from swav_jax.ops.metrics import embedding_std
from swav_jax.ops.precision import at_least_float32


class Banked(Protocol):
    """The settings of a method with a bank."""

    @property
    def encoder(self) -> Encoder:
        """Of images."""

    @property
    def prototypes(self) -> int:
        """K, clusters of each head."""

    @property
    def heads(self) -> int:
        """H, clusterings."""

    @property
    def temperature(self) -> float:
        """The tau of the prediction."""

    @property
    def assignment_crops(self) -> tuple[int, ...]:
        """The A crops that are remembered."""


def check(method: Banked, sizes: contract.Sizes) -> list[str]:
    """Refuses more clusters than there are images, and devices that do not divide the bank."""
    contract.check_assignment_crops(method.assignment_crops, sizes)
    bank.check_devices(sizes.data_devices, sizes.size)
    return contract.check_clusters(method.prototypes, sizes)


def init(
    method: Banked, key: jax.Array, crops: contract.Crops, size: int
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Encoder and prototypes as PyTorch draws them, and an empty bank."""
    params, batch_stats = init_with_prototypes(
        method.encoder, key, crops, method.prototypes, method.heads
    )
    head = method.encoder.head
    extra = bank.empty(
        len(method.assignment_crops), method.heads, size, head.dim, at_least_float32(head.dtype)
    )
    return params, batch_stats, extra


def loss(
    method: Banked,
    prototypes: dict[str, Float[Array, "K D"]],
    extra: dict[str, Any],
    embedding: Float[Array, "B V D"],
    index: Int[Array, "B"],
) -> tuple[Float[Array, ""], tuple[dict[str, Any], contract.Metrics]]:
    """Cross-entropy of all crops with the clusters; then the embeddings enter the bank."""
    value, metrics = bank.cluster_prediction(
        embedding,
        [prototypes[f"prototypes{h}"] for h in range(method.heads)],
        bank.lookup(extra["assignments"], index),
        method.temperature,
    )
    assigned = lax.stop_gradient(embedding)[:, method.assignment_crops, :]
    metrics["embedding_std"] = embedding_std(assigned[:, 0])
    return value, (extra | {"bank": bank.write(extra["bank"], index, assigned)}, metrics)


def rows_of_head(method: Banked, extra: dict[str, Any], head: int) -> Float[Array, "N D"]:
    """The bank whose rows a head clusters."""
    return bank.read(extra["bank"], head % len(method.assignment_crops))


def remember(
    method: Banked, state: contract.TrainState, batch: dict[str, Any]
) -> contract.TrainState:
    """Embeds a batch in train mode and puts its assignment crops into the bank."""
    embedding, batch_stats = embed(method.encoder, state.params, state.batch_stats, batch["crops"])
    assigned = embedding[:, method.assignment_crops, :]
    filled = bank.write(state.extra["bank"], batch["index"], assigned)
    return dataclasses.replace(state, batch_stats=batch_stats, extra=state.extra | {"bank": filled})
