"""SimCLR: find the other crop of an image among all crops of the batch.

Chen et al., 2020, "A Simple Framework for Contrastive Learning of Visual Representations":
embeddings z of unit length and the loss NT-Xent,
-log(exp(z_i . z_j / tau) / sum_{k != i} exp(z_i . z_k / tau)), for every crop i and the other crop
j of its image, with k over all crops of the global batch. Each device computes only its own rows
of the similarities.

With more than two crops each crop must find every other crop of its image, and an image's further
crops are not negatives. This is how the authors of SwAV apply multi-crop to SimCLR in their library
VISSL, for the comparison in their Figure 3.
"""

from dataclasses import dataclass

from jaxtyping import Array, Float, Int

from swav_jax import sharding
from swav_jax.methods import checks
from swav_jax.methods.contract import Clock, Extra, Method, Metrics, Params, Sizes
from swav_jax.ops.contrastive import Contrast, nt_xent
from swav_jax.ops.metrics import alignment, embedding_std


@dataclass(frozen=True, kw_only=True)
class SimCLR(Method):
    """Settings of SimCLR; the defaults are the published ones for ImageNet."""

    temperature: float = 0.1  # tau

    def loss(
        self,
        params: Params,
        extra: Extra,
        outputs: Float[Array, "B V D"],
        index: Int[Array, "B"],
        clock: Clock,
    ) -> tuple[Float[Array, ""], tuple[Extra, Metrics]]:
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
            "alignment": alignment(outputs[:, 0], outputs[:, 1:]),
        }
        return loss, (extra, metrics)

    def check(self, sizes: Sizes) -> list[str]:
        """Refuses a batch without positives or without negatives."""
        checks.crops_to_compare(sizes)
        if sizes.batch_size < 2:
            raise ValueError(
                "SimCLR takes its negatives from the batch: data.batch_size must be at least 2, "
                "better some hundreds."
            )
        return checks.shared_statistics(self.encoder, sizes)
