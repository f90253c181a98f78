"""DeepCluster-v2: predict the k-means cluster of an image from every crop of it.

Caron et al., 2020, "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
appendix D, after Caron et al., 2018. A bank remembers the embedding z of each assignment crop of
each image. At the start of an epoch, head h clusters bank h mod A by spherical k-means,

  max over C, a of sum_n z_n . c_a(n)   with |c_k| = 1,

and its centroids C become its prototypes until the next clustering; no gradient moves them. The
loss is the cross-entropy of softmax_k(z . c_k / tau) with the image's cluster a(n), over all crops,
also those that were clustered, and averaged over the heads. During the epoch the bank takes the
embeddings that training computes anyway.

Before the first clustering, one pass in train mode without an optimiser fills the bank. It runs the
network on all crops as training does, so that batch norm sees what it will see. Images left over
from an epoch's last batch have no cluster before they are drawn, and no part in the loss.

The bank holds A N D numbers: 1.3 GB for ImageNet's 1.28 million images with the defaults, 1 TB for
a billion, in float32 and spread over all devices or, by `mesh.bank_memory`, the memory of their
hosts; k-means takes one crop's rows at a time and adds the scores of a chunk of them.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from swav_jax.methods import contract
from swav_jax.models import Encoder, embed, init_with_prototypes
from swav_jax.ops import bank, diagnostics
from swav_jax.ops.kmeans import KMeans, kmeans, random_rows
from swav_jax.ops.precision import at_least_float32


@dataclass(frozen=True)
class DeepClusterV2(contract.Method):
    """Settings of DeepCluster-v2; the defaults are the published ones for ImageNet."""

    encoder: Encoder
    prototypes: int  # K, clusters of each head
    heads: int  # clusterings; 3 as published
    temperature: float = 0.1  # tau
    assignment_crops: tuple[int, ...] = (0, 1)
    kmeans_iterations: int = 10

    cluster_every_epochs: ClassVar[int] = 1

    def check(self, run: contract.Run) -> list[str]:
        """Refuses more clusters than there are images to cluster."""
        contract.check_assignment_crops(self.assignment_crops, run)
        bank.check_devices(run.data_devices, run.size)
        return contract.check_clusters(self.prototypes, run)

    def init(
        self, key: jax.Array, crops: contract.Crops, size: int
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The encoder, an empty bank, and prototypes that the first clustering replaces."""
        params, batch_stats = init_with_prototypes(
            self.encoder, key, crops, self.prototypes, self.heads
        )
        head = self.encoder.head
        extra = bank.empty(
            len(self.assignment_crops), self.heads, size, head.dim, at_least_float32(head.dtype)
        )
        return params, batch_stats, extra

    def frozen(self, clock: contract.Clock) -> dict[str, Any]:
        """Prototypes are centroids: only clustering moves them."""
        return {"prototypes": True}

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
        """Cross-entropy of all crops with the clusters, averaged over the heads."""
        embedding = outputs
        prototypes = lax.stop_gradient(params["prototypes"])
        loss, metrics = bank.cluster_prediction(
            embedding,
            [prototypes[f"prototypes{h}"] for h in range(self.heads)],
            bank.lookup(extra["assignments"], index),
            self.temperature,
        )
        assigned = lax.stop_gradient(embedding)[:, self.assignment_crops, :]
        metrics["embedding_std"] = diagnostics.embedding_std(assigned[:, 0])
        return loss, (extra | {"bank": bank.write(extra["bank"], index, assigned)}, metrics)

    def cluster(
        self, state: contract.TrainState, visit: contract.Visit, epoch: int, key: jax.Array
    ) -> tuple[contract.TrainState, contract.Metrics]:
        """Centroids of the banks become the prototypes."""
        if epoch == 0:
            state = visit(self._remember, state, "crops")
        found = [
            self._clusters(bank.read(state.extra["bank"], h % len(self.assignment_crops)), head_key)
            for h, head_key in enumerate(jax.random.split(key, self.heads))
        ]
        prototypes = {f"prototypes{h}": clusters.centroids for h, clusters in enumerate(found)}
        extra = state.extra | {"assignments": jnp.stack([c.assignments for c in found])}
        state = dataclasses.replace(
            state, params=state.params | {"prototypes": prototypes}, extra=extra
        )
        return state, bank.usage(extra["assignments"], self.prototypes)

    def assignments(self, extra: dict[str, Any]) -> Int[Array, "H N"]:
        """The clusters of each head."""
        return extra["assignments"]

    def _clusters(self, rows: Float[Array, "N D"], key: jax.Array) -> KMeans:
        """K-means over the rows that were written."""
        seen = bank.written(rows)
        found = kmeans(
            rows,
            random_rows(key, rows, self.prototypes, valid=seen),
            iterations=self.kmeans_iterations,
            spherical=True,
            empty="keep",
            valid=seen,
        )
        return jax.block_until_ready(found)  # before the devices get the next bank's rows

    def _remember(self, state: contract.TrainState, batch: dict[str, Any]) -> contract.TrainState:
        """Embeds a batch in train mode and puts its assignment crops into the bank."""
        embedding, batch_stats = self.forward(
            state.params, state.batch_stats, state.extra, batch["crops"]
        )
        assigned = embedding[:, self.assignment_crops, :]
        filled = bank.write(state.extra["bank"], batch["index"], assigned)
        return dataclasses.replace(
            state, batch_stats=batch_stats, extra=state.extra | {"bank": filled}
        )
