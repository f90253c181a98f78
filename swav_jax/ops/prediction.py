"""Loss functions over the crops of a batch."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def swapped_prediction(
    scores: Float[Array, "B V K"],
    codes: Float[Array, "A B K"],
    assignment_crops: Sequence[int],
    temperature: float,
) -> Float[Array, ""]:
    """Cross-entropy between each assignment crop's codes and every other crop's prediction.

    L = 1/A sum_a 1/(V-1) sum_{v != a} mean_b -sum_k q_bk^(a) log softmax_k(s_b^(v) / tau)
    (Caron et al., 2020, equation 2 summed over multi-crop, section 3.3).

    Args:
      scores: similarities of every crop to the prototypes.
      codes: targets from the assignment crops; no gradient should flow into them.
      assignment_crops: which of the V crops the A codes belong to.
      temperature: tau.
    """
    log_p = jax.nn.log_softmax(scores / temperature, axis=-1)
    batch, crops = scores.shape[:2]
    agreement = jnp.einsum("abk,bvk->av", codes, log_p) / batch
    others = jnp.arange(crops)[None, :] != jnp.asarray(assignment_crops)[:, None]
    return -jnp.sum(agreement, where=others) / (len(assignment_crops) * (crops - 1))
