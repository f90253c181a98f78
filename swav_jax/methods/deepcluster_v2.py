"""DeepCluster-v2: predict the k-means cluster of an image from every crop of it.

Caron et al., 2020, "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
appendix D, after Caron et al., 2018. A bank remembers the embedding z of each assignment crop of
each image. At the start of an epoch, head h clusters bank h mod A by spherical k-means,

  max over C, a of sum_n z_n . c_a(n)   with |c_k| = 1,

and its centroids C become its prototypes until the next clustering; no gradient moves them. The
loss is the cross-entropy of softmax_k(z . c_k / tau) with the image's cluster a(n), over all crops,
including those that were clustered, averaged over heads. `banked` says how the bank is filled.

The bank holds A N D numbers: 1.3 GB for ImageNet's 1.28 million images with the defaults, 1 TB for
a billion, in float32 and spread over all devices or, by `mesh.bank_memory`, their machines'
memory; k-means takes one crop's rows at a time and adds the scores of a chunk of them.
"""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from swav_jax.methods.banked import Banked
from swav_jax.methods.contract import Clock, Extra, Metrics, Params, TrainState, Visit
from swav_jax.ops import bank
from swav_jax.ops.clusters import usage
from swav_jax.ops.kmeans import KMeans, kmeans, random_rows


@dataclass(frozen=True, kw_only=True)
class DeepClusterV2(Banked):
    """Settings of DeepCluster-v2; the defaults are the published ones for ImageNet (3 heads)."""

    kmeans_iterations: int = 10

    def frozen(self, clock: Clock) -> dict[str, Bool[Array, ""] | bool]:
        """Prototypes are centroids: only clustering moves them."""
        return {"prototypes": True}

    def loss(
        self,
        params: Params,
        extra: Extra,
        outputs: Float[Array, "B V D"],
        index: Int[Array, "B"],
        clock: Clock,
    ) -> tuple[Float[Array, ""], tuple[Extra, Metrics]]:
        """The same, without a gradient for the prototypes."""
        centroids = lax.stop_gradient(params["prototypes"])
        return super().loss(params | {"prototypes": centroids}, extra, outputs, index, clock)

    def cluster(
        self, state: TrainState, visit: Visit, epoch: int, key: Key[Array, ""]
    ) -> tuple[TrainState, Metrics]:
        """Centroids of the banks become the prototypes."""
        state = self.with_full_bank(state, visit, epoch)
        found = [
            self._clusters(self.rows_of_head(state.extra, h), head_key)
            for h, head_key in enumerate(jax.random.split(key, self.heads))
        ]
        prototypes = {f"prototypes{h}": clusters.centroids for h, clusters in enumerate(found)}
        extra = state.extra | {"assignments": jnp.stack([c.assignments for c in found])}
        state = dataclasses.replace(
            state, params=state.params | {"prototypes": prototypes}, extra=extra
        )
        return state, usage(extra["assignments"], self.prototypes)

    def _clusters(self, rows: Float[Array, "N D"], key: Key[Array, ""]) -> KMeans:
        """K-means over the rows that were written."""
        seen = bank.written(rows)
        found = kmeans(
            rows,
            random_rows(key, rows, self.prototypes, valid=seen),
            iterations=self.kmeans_iterations,
            spherical=True,
            valid=seen,
        )
        return jax.block_until_ready(found)  # before the devices get the next bank's rows
