"""Gradients of a method's loss, from the whole batch at once or from parts of it in turn.

A loss that looks at the whole batch (codes are balanced over it, negatives come from it) is not the
mean of its parts' losses. So with parts, the outputs of all parts are computed first, then the loss
and its gradient with respect to the outputs, then each part is run again to carry that gradient
into the parameters (the idea of Gao et al., 2021, "Scaling deep contrastive learning batch size
under memory limited setup"). Only batch-norm statistics are those of the parts.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from swav_jax.methods.contract import (
    BatchStats,
    Clock,
    Crops,
    Extra,
    Method,
    Metrics,
    Params,
    TrainState,
)

Result = tuple[
    PyTree,  # gradients, like the parameters
    Float[Array, ""],  # loss
    BatchStats,
    Extra,
    Metrics,
]


def whole_batch(
    method: Method, state: TrainState, crops: Crops, index: Int[Array, "B"], clock: Clock
) -> Result:
    """Gradients by one pass forward and one back."""

    def objective(params: Params) -> tuple[Float[Array, ""], Any]:
        outputs, batch_stats = method.forward(params, state.batch_stats, state.extra, crops)
        loss, (extra, metrics) = method.loss(params, state.extra, outputs, index, clock)
        return loss, (batch_stats, extra, metrics)

    (loss, (batch_stats, extra, metrics)), grads = jax.value_and_grad(objective, has_aux=True)(
        state.params
    )
    return grads, loss, batch_stats, extra, metrics


def split(batch: PyTree, parts: int) -> PyTree:
    """The parts of a batch, along a new first axis.

    Part i is rows i, i + parts, ...: every part is spread over all devices as the batch is.
    """
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), batch)


def in_parts(
    method: Method,
    state: TrainState,
    crops: Crops,
    index: Int[Array, "B"],
    clock: Clock,
    *,
    parts: int,
) -> Result:
    """The same with the memory of 1/parts of the batch, for two passes forward and one back."""

    def merge(x: Array) -> Array:
        return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])

    pieces = split(tuple(crops), parts)

    def forward(batch_stats: BatchStats, piece: Crops) -> tuple[BatchStats, PyTree]:
        outputs, batch_stats = method.forward(state.params, batch_stats, state.extra, piece)
        return batch_stats, outputs

    batch_stats, outputs = lax.scan(forward, state.batch_stats, pieces)
    outputs = jax.tree.map(merge, outputs)

    def objective(params: Params, outputs: PyTree) -> tuple[Float[Array, ""], Any]:
        return method.loss(params, state.extra, outputs, index, clock)

    (loss, (extra, metrics)), (grads, pulls) = jax.value_and_grad(
        objective, argnums=(0, 1), has_aux=True
    )(state.params, outputs)

    def backward(grads: PyTree, piece_and_pull: tuple[Crops, PyTree]) -> tuple[PyTree, None]:
        piece, pull = piece_and_pull
        _, vjp = jax.vjp(
            lambda params: method.forward(params, state.batch_stats, state.extra, piece)[0],
            state.params,
        )
        return jax.tree.map(jnp.add, grads, vjp(pull)[0]), None

    grads, _ = lax.scan(backward, grads, (pieces, split(pulls, parts)))
    return grads, loss, batch_stats, extra, metrics
