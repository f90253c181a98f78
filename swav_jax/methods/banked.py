"""What DeepCluster-v2 and SeLa-v2 share: clusters of remembered embeddings, predicted by all crops.

A bank remembers the embedding z of each assignment crop of each image. Before the first clustering,
one pass in train mode without an optimiser fills it, on all crops as in training, so that batch
norm has the same statistics (the reference passes each assignment crop alone). Then it takes the
embeddings that training computes anyway. Head h clusters bank h mod A. Images that an epoch's whole
batches leave out have no cluster until they are drawn, and no part in the loss.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from jax import lax
from jaxtyping import Array, Float, Int, Key

from swav_jax.methods import checks
from swav_jax.methods.contract import (
    BatchStats,
    Clock,
    Crops,
    Extra,
    Method,
    Metrics,
    Params,
    Prototypes,
    Sizes,
    TrainState,
    Visit,
    Visited,
)
from swav_jax.methods.prototypes import init_with_prototypes, sets_of
from swav_jax.models.encoder import embed
from swav_jax.ops import bank
from swav_jax.ops.metrics import alignment, embedding_std
from swav_jax.ops.precision import at_least_float32
from swav_jax.ops.prediction import cluster_prediction


@dataclass(frozen=True, kw_only=True)
class Banked(Method):
    """A method with a bank; subclasses define how its rows are clustered."""

    prototypes: int  # K, clusters of each head
    heads: int  # H, clusterings
    temperature: float = 0.1  # tau
    assignment_crops: tuple[int, ...] = (0, 1)  # A of them

    cluster_every_epochs: ClassVar[int] = 1
    prototypes_in: ClassVar[tuple[str, ...]] = ("params/prototypes",)

    def init(
        self, key: Key[Array, ""], crops: Crops, size: int
    ) -> tuple[Params, BatchStats, Extra]:
        """Encoder and prototypes as PyTorch draws them, and an empty bank."""
        params, batch_stats = init_with_prototypes(
            self.encoder, key, crops, self.prototypes, self.heads
        )
        head = self.encoder.head
        extra = bank.empty(
            len(self.assignment_crops), self.heads, size, head.dim, at_least_float32(head.dtype)
        )
        return params, batch_stats, extra

    def loss(
        self,
        params: Params,
        extra: Extra,
        outputs: Float[Array, "B V D"],
        index: Int[Array, "B"],
        clock: Clock,
    ) -> tuple[Float[Array, ""], tuple[Extra, Metrics]]:
        """Cross-entropy of all crops with the clusters; then the embeddings enter the bank."""
        value, metrics = cluster_prediction(
            outputs,
            [params["prototypes"][f"prototypes{h}"] for h in range(self.heads)],
            bank.lookup(extra["assignments"], index),
            self.temperature,
        )
        assigned = lax.stop_gradient(outputs)[:, self.assignment_crops, :]
        metrics["embedding_std"] = embedding_std(assigned[:, 0])
        metrics["alignment"] = alignment(outputs[:, 0], outputs[:, 1:])
        return value, (extra | {"bank": bank.write(extra["bank"], index, assigned)}, metrics)

    def with_full_bank(self, state: TrainState, visit: Visit, epoch: int) -> TrainState:
        """The state; before the first epoch, a pass over all crops fills its bank."""
        return visit(self._remember, state, "crops") if epoch == 0 else state

    def rows_of_head(self, extra: Extra, head: int) -> Float[Array, "N D"]:
        """The bank whose rows a head clusters."""
        return bank.read(extra["bank"], head % len(self.assignment_crops))

    def prototype_sets(self, saved: dict[str, Any]) -> list[Prototypes]:
        """The prototypes of each head."""
        return sets_of(saved, self.temperature)

    def check(self, sizes: Sizes) -> list[str]:
        """Refuses more clusters than there are images, and devices that do not divide the bank."""
        checks.assignment_crops(self.assignment_crops, sizes)
        bank.check_devices(sizes.data_devices, sizes.size)
        return checks.clusters(self.prototypes, sizes.images_per_epoch)

    def _remember(self, state: TrainState, batch: Visited) -> TrainState:
        """Embeds a batch in train mode and puts its assignment crops into the bank."""
        embedding, batch_stats = embed(self.encoder, state.params, state.batch_stats, batch.crops)
        assigned = embedding[:, self.assignment_crops, :]
        filled = bank.write(state.extra["bank"], batch.index, assigned)
        return dataclasses.replace(
            state, batch_stats=batch_stats, extra=state.extra | {"bank": filled}
        )
