"""SeLa-v2: predict an image's cluster, balanced over the whole data set, from every crop of it.

Asano et al., 2020, "Self-labelling via simultaneous clustering and representation learning", in the
form of Caron et al., 2020, "Unsupervised Learning of Visual Features by Contrasting Cluster
Assignments", appendix D. A bank remembers the embedding z of each assignment crop of each image. At
the start of an epoch, head h takes the scores s_nk = z_n . c_k of bank h mod A and solves

  max over Q of <Q, S> + epsilon H(Q)   with sum_k q_nk = 1/N and sum_n q_nk = 1/K

by Sinkhorn-Knopp over the data set; the cluster of image n is argmax_k q_nk. The loss is the
cross-entropy of softmax_k(z . c_k / tau) with that cluster, over all crops and averaged over heads,
and gradients move the prototypes, which go back to unit length before each step. All else is as in
DeepCluster-v2: a pass in train mode fills the bank before the first epoch, training keeps it fresh.

The training code was never published; its author describes it as DeepCluster-v2 with k-means
replaced by Sinkhorn and prototypes learnt by SGD. Not published are epsilon and the iterations for
SeLa-v2 (here SwAV's 0.05, which is the 1/lambda of 20 to 25 of SeLa, and a fixed number that brings
the prototypes' shares within a few percent), nor whether the codes were hard (here they are, as
in SeLa; SwAV's paper writes the assignment as one-hot) and prototypes frozen at first (here never).

The scores are [N, K], 15 GB in float32 for ImageNet and K = 3000, spread over all devices; Sinkhorn
keeps two to three arrays of that size while it runs, for one head at a time.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from swav_jax import sharding
from swav_jax.methods import banked, contract
from swav_jax.models.encoder import Encoder, embed
from swav_jax.ops import bank
from swav_jax.ops.similarity import similarity, unit
from swav_jax.ops.sinkhorn import Codes, sinkhorn


@dataclass(frozen=True)
class SeLaV2(contract.Method):
    """Settings of SeLa-v2; see above for which of the defaults are published."""

    encoder: Encoder
    prototypes: int  # K
    heads: int  # sets of K prototypes
    temperature: float = 0.1  # tau
    assignment_crops: tuple[int, ...] = (0, 1)
    epsilon: float = 0.05
    sinkhorn_iterations: int = 30

    cluster_every_epochs: ClassVar[int] = 1

    def check(self, sizes: contract.Sizes) -> list[str]:
        """Refuses more clusters than there are images to balance over them."""
        return banked.check(self, sizes)

    def init(
        self, key: jax.Array, crops: contract.Crops, size: int
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Encoder and prototypes as PyTorch draws them, and an empty bank."""
        return banked.init(self, key, crops, size)

    def before_step(
        self, params: dict[str, Any], extra: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Prototypes go back to the unit sphere; the step is taken from there."""
        return params | {"prototypes": jax.tree.map(unit, params["prototypes"])}, extra

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
        return banked.loss(self, params["prototypes"], extra, outputs, index)

    def cluster(
        self, state: contract.TrainState, visit: contract.Visit, epoch: int, key: jax.Array
    ) -> tuple[contract.TrainState, contract.Metrics]:
        """Every image of the bank gets the cluster of its largest code."""
        if epoch == 0:
            state = visit(partial(banked.remember, self), state, "crops")
        found = []
        for h in range(self.heads):
            codes = balanced_assignments(
                banked.rows_of_head(self, state.extra, h),
                unit(state.params["prototypes"][f"prototypes{h}"]),
                epsilon=self.epsilon,
                iterations=self.sinkhorn_iterations,
            )
            found.append(jax.block_until_ready(codes))  # before the devices get the next scores
        assignments, residual = jax.tree.map(lambda *x: jnp.stack(x), *found)
        metrics = bank.usage(assignments, self.prototypes)
        state = dataclasses.replace(state, extra=state.extra | {"assignments": assignments})
        return state, metrics | {"marginal_residual": jnp.mean(residual)}

    def assignments(self, extra: dict[str, Any]) -> Int[Array, "H N"]:
        """The clusters of each head."""
        return extra["assignments"]


@partial(jax.jit, static_argnames=("epsilon", "iterations"))
def balanced_assignments(
    rows: Float[Array, "N D"],
    prototypes: Float[Array, "K D"],
    *,
    epsilon: float,
    iterations: int,
) -> tuple[Int[Array, "N"], Float[Array, ""]]:
    """The hard codes of all rows that were written, -1 for the others.

    Returns:
      assignments, and the soft codes' residual sum_k |share of prototype k - 1/K|.
    """
    seen = bank.written(rows)

    def balance(scores: Array, seen: Bool[Array, "n"], **axes: Sequence[str]) -> Codes:
        return sinkhorn(scores, epsilon=epsilon, iterations=iterations, valid=seen, **axes)

    codes, residual = sharding.on_blocks(
        balance,
        (similarity(rows, prototypes), seen),
        in_specs=(sharding.SCORES, sharding.SAMPLES),
        out_specs=Codes._make((sharding.SCORES, sharding.WHOLE)),
    )
    return jnp.where(seen, jnp.argmax(codes, axis=1).astype(jnp.int32), -1), residual
