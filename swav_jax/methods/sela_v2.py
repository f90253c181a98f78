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
replaced by Sinkhorn and prototypes learnt by SGD. Epsilon and the number of iterations are not
known (here SwAV's 0.05, which is SeLa's 1/lambda for 20 to 25, and a fixed number that brings the
prototypes' shares within a few percent). Nor is it known whether codes were hard (here they are, as
in SeLa; SwAV's paper writes the assignment as one-hot), or prototypes frozen at first (here never).

The scores are [N, K], 15 GB in float32 for ImageNet and K = 3000, spread over all devices; Sinkhorn
keeps two to three arrays of that size while it runs, for one head at a time.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from swav_jax.methods.banked import Banked
from swav_jax.methods.contract import Extra, Metrics, Params, TrainState, Visit
from swav_jax.methods.prototypes import on_unit_sphere
from swav_jax.ops import bank
from swav_jax.ops.clusters import usage
from swav_jax.ops.largest import first_largest
from swav_jax.ops.similarity import similarity, unit
from swav_jax.ops.sinkhorn import sinkhorn_on_mesh


@dataclass(frozen=True, kw_only=True)
class SeLaV2(Banked):
    """Settings of SeLa-v2; see above for which of the defaults are published."""

    epsilon: float = 0.05
    sinkhorn_iterations: int = 30

    def before_step(self, params: Params, extra: Extra) -> tuple[Params, Extra]:
        """Puts the prototypes back on the unit sphere, from where the step is taken."""
        return on_unit_sphere(params), extra

    def cluster(
        self, state: TrainState, visit: Visit, epoch: int, key: Key[Array, ""]
    ) -> tuple[TrainState, Metrics]:
        """Every image of the bank gets the cluster of its largest code."""
        state = self.with_full_bank(state, visit, epoch)
        found = []
        for h in range(self.heads):
            codes = balanced_assignments(
                self.rows_of_head(state.extra, h),
                unit(state.params["prototypes"][f"prototypes{h}"]),
                epsilon=self.epsilon,
                iterations=self.sinkhorn_iterations,
            )
            found.append(jax.block_until_ready(codes))  # before the devices get the next scores
        assignments, residual = jax.tree.map(lambda *x: jnp.stack(x), *found)
        metrics = usage(assignments, self.prototypes)
        state = dataclasses.replace(state, extra=state.extra | {"assignments": assignments})
        return state, metrics | {"marginal_residual": jnp.mean(residual)}


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
    codes, residual = sinkhorn_on_mesh(
        similarity(rows, prototypes), epsilon=epsilon, iterations=iterations, valid=seen
    )
    return jnp.where(seen, first_largest(codes), -1), residual
