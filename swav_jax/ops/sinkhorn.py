"""Sinkhorn-Knopp codes: soft assignments that spread a batch evenly over the prototypes.

For scores S = Z C^T the codes solve max_Q <Q, S> + epsilon H(Q) over all Q whose samples weigh 1/B
and whose prototypes weigh 1/K each (Caron et al., 2020, equations 3 to 5), approximately, by a few
alternating normalisations of exp(S / epsilon): prototypes first, samples last.

The iterations run on log-potentials, log Q = S / epsilon + f_k + g_b. That is the same sequence of
normalisations in exact arithmetic, but no exp can overflow and no sum can vanish, whatever epsilon.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from swav_jax.ops.precision import at_least_float32
from swav_jax.sharding import SAMPLES, SCORES, WHOLE, on_blocks

Axes = Sequence[str]


class Codes(NamedTuple):
    """What `sinkhorn` returns."""

    codes: Float[Array, "B K"]
    residual: Float[Array, ""]


@jax.named_scope("sinkhorn")
def sinkhorn(
    scores: Float[Array, "B K"],
    *,
    epsilon: float,
    iterations: int,
    valid: Bool[Array, "B"] | None = None,
    sample_axes: Axes = (),
    prototype_axes: Axes = (),
) -> Codes:
    """Assigns every sample to the prototypes, softly, so that all prototypes are used equally.

    Inside `jax.shard_map` each device passes its block of the scores and the mesh axes over which
    samples and prototypes are spread; sums then go over all devices.

    Args:
      scores: similarities of samples to prototypes; computed in at least float32.
      epsilon: weight of the entropy; small values give near one-hot codes.
      iterations: rounds of (prototypes to 1/K, samples to 1/B).
      valid: samples that exist; the others weigh nothing, as if they were absent.
      sample_axes: mesh axes that the samples are spread over.
      prototype_axes: mesh axes that the prototypes are spread over.

    Returns:
      codes, whose rows sum to 1, and the residual of the other marginal:
      sum_k |mean_b codes[b, k] - 1/K|, between 0 (even) and 2.
    """
    dtype = at_least_float32(scores.dtype)
    logits = scores.astype(dtype) / epsilon
    valid = jnp.ones(scores.shape[:1], bool) if valid is None else valid
    samples = lax.psum(jnp.sum(valid, dtype=dtype), sample_axes)
    prototypes = lax.psum(jnp.ones((), dtype) * scores.shape[1], prototype_axes)

    sample_potential = jnp.zeros(scores.shape[:1], dtype)
    prototype_potential = jnp.zeros(scores.shape[1:], dtype)
    for _ in range(iterations):
        columns = jnp.where(valid[:, None], logits + sample_potential[:, None], -jnp.inf)
        prototype_potential = -jnp.log(prototypes) - _logsumexp(columns, 0, sample_axes)
        rows = logits + prototype_potential[None, :]
        sample_potential = -jnp.log(samples) - _logsumexp(rows, 1, prototype_axes)

    codes = samples * jnp.exp(logits + prototype_potential[None, :] + sample_potential[:, None])
    weight = lax.psum(jnp.sum(codes, axis=0, where=valid[:, None]), sample_axes) / samples
    residual = lax.psum(jnp.sum(jnp.abs(weight - 1 / prototypes)), prototype_axes)
    return Codes(codes, residual)


def sinkhorn_on_mesh(
    scores: Float[Array, "B K"],
    *,
    epsilon: float,
    iterations: int,
    valid: Bool[Array, "B"] | None = None,
) -> Codes:
    """`sinkhorn` of the scores of a whole batch, of which each device works on its block."""

    def balance(scores: Array, valid: Array | None, **axes: Axes) -> Codes:
        return sinkhorn(scores, epsilon=epsilon, iterations=iterations, valid=valid, **axes)

    return on_blocks(
        balance,
        (scores, valid),
        in_specs=(SCORES, SAMPLES),
        out_specs=Codes._make((SCORES, WHOLE)),
    )


def harden(codes: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """One-hot codes: all of a sample's weight on its largest code."""
    return jax.nn.one_hot(jnp.argmax(codes, axis=-1), codes.shape[-1], dtype=codes.dtype)


def _logsumexp(x: Array, axis: int, mesh_axes: Axes) -> Array:
    """Log sum exp over one array axis and the mesh axes that it is spread over."""
    largest = lax.pmax(jnp.max(x, axis=axis, keepdims=True), mesh_axes)
    total = lax.psum(jnp.sum(jnp.exp(x - largest), axis=axis), mesh_axes)
    return jnp.log(total) + jnp.squeeze(largest, axis)
