"""SimCLR: find the other crop of an image among all crops of the batch.

Chen et al., 2020, "A Simple Framework for Contrastive Learning of Visual Representations":
embeddings z of unit length and the loss NT-Xent,
-log(exp(z_i . z_j / tau) / sum_{k != i} exp(z_i . z_k / tau)), for every crop i and the other crop
j of its image, with k over all crops of the global batch. Each device computes only its own rows
of the similarities.

With more than two crops each crop has to find each other crop of its image, and an image's further
crops are no negatives: how the authors of SwAV apply multi-crop to SimCLR in their library VISSL,
for the comparison in their Figure 3.
"""

from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Float, Int

from swav_jax import sharding
from swav_jax.methods import contract
from swav_jax.models.encoder import Encoder, embed
from swav_jax.ops.contrastive import Contrast, nt_xent
from swav_jax.ops.metrics import embedding_std


@dataclass(frozen=True)
class SimCLR(contract.Method):
    """Settings of SimCLR; the defaults are the published ones for ImageNet."""

    encoder: Encoder
    prototypes: int  # SimCLR has none
    heads: int
    temperature: float = 0.1  # tau

    def check(self, sizes: contract.Sizes) -> list[str]:
        """Refuses a batch in which there is nothing to find or nothing to tell apart."""
        if sizes.views < 2:
            raise ValueError("SimCLR compares crops of an image: data.crops must cut at least two.")
        if sizes.batch_size < 2:
            raise ValueError(
                "SimCLR takes its negatives from the batch: data.batch_size must be at least 2, "
                "better some hundreds."
            )
        return []

    def init(
        self, key: jax.Array, crops: contract.Crops, size: int
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """A fresh encoder; nothing to remember."""
        variables = self.encoder.init(key, crops, train=True)
        return variables["params"], variables["batch_stats"], {}

    def forward(
        self,
        params: dict[str, Any],
        batch_stats: dict[str, Any],
        extra: dict[str, Any],
        crops: contract.Crops,
    ) -> tuple[Float[Array, "B V D"], dict[str, Any]]:
        """Unit-length embeddings of all crops."""
        return embed(self.encoder, params, batch_stats, crops)

    def loss(
        self,
        params: dict[str, Any],
        extra: dict[str, Any],
        outputs: Float[Array, "B V D"],
        index: Int[Array, "B"],
        clock: contract.Clock,
    ) -> tuple[Float[Array, ""], tuple[dict[str, Any], contract.Metrics]]:
        """NT-Xent over the global batch."""

        def on_block(
            embedding: Float[Array, "b V D"],
            sample_axes: tuple[str, ...],
            prototype_axes: tuple[str, ...],
        ) -> Contrast:
            return nt_xent(embedding, temperature=self.temperature, sample_axes=sample_axes)

        loss, accuracy = sharding.on_blocks(
            on_block,
            (outputs,),
            in_specs=(sharding.SAMPLES,),
            out_specs=Contrast._make((sharding.WHOLE, sharding.WHOLE)),
        )
        metrics = {
            "positive_accuracy": accuracy,
            "embedding_std": embedding_std(outputs[:, 0]),
        }
        return loss, (extra, metrics)
