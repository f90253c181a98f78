"""DeepCluster-v2: predict the k-means cluster of an image from every crop of it.

Caron et al., 2020, "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
appendix D, after Caron et al., 2018. A bank remembers the embedding z of each assignment crop of
each image. At the start of an epoch, head h clusters bank h mod A by spherical k-means,

  max over C, a of sum_n z_n . c_a(n)   with |c_k| = 1,

and its centroids C become its prototypes until the next clustering; no gradient moves them. The
loss is the cross-entropy of softmax_k(z . c_k / tau) with the image's cluster a(n), over all crops,
also those that were clustered, and averaged over the heads. `banked` says how the bank is filled.

The bank holds A N D numbers: 1.3 GB for ImageNet's 1.28 million images with the defaults, 1 TB for
a billion, in float32 and spread over all devices or, by `mesh.bank_memory`, the memory of their
hosts; k-means takes one crop's rows at a time and adds the scores of a chunk of them.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from swav_jax.methods import banked, contract
from swav_jax.models.encoder import Encoder, embed
from swav_jax.ops import bank
from swav_jax.ops.kmeans import KMeans, kmeans, random_rows


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

    def check(self, sizes: contract.Sizes) -> list[str]:
        """Refuses more clusters than there are images to cluster."""
        return banked.check(self, sizes)

    def init(
        self, key: jax.Array, crops: contract.Crops, size: int
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The encoder, an empty bank, and prototypes that the first clustering replaces."""
        return banked.init(self, key, crops, size)

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
        return banked.loss(self, lax.stop_gradient(params["prototypes"]), extra, outputs, index)

    def cluster(
        self, state: contract.TrainState, visit: contract.Visit, epoch: int, key: jax.Array
    ) -> tuple[contract.TrainState, contract.Metrics]:
        """Centroids of the banks become the prototypes."""
        if epoch == 0:
            state = visit(partial(banked.remember, self), state, "crops")
        found = [
            self._clusters(banked.rows_of_head(self, state.extra, h), head_key)
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
