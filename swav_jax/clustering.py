"""The epoch boundary: clusters are made anew, after passes over the whole training set."""

import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, PyTree

from swav_jax import keys, sharding
from swav_jax.augment.photometric import normalise
from swav_jax.data.batch import EvalBatch, TrainBatch
from swav_jax.data.passes import one_pass
from swav_jax.data.sizes import common_size
from swav_jax.gradients import split
from swav_jax.methods.contract import Fold, TrainState, Visited
from swav_jax.run import Run, training_batches

# Passes number their epochs from here, which training never reaches, so that clusters are not made
# of the very crops that predict them afterwards.
FIRST_EPOCH_OF_PASSES = 2**30


def due(run: Run, step: int) -> bool:
    """Whether the method clusters before this step."""
    epoch, step_in_epoch = divmod(step, run.sizes.steps_per_epoch)
    every = run.method.cluster_every_epochs
    return every > 0 and step_in_epoch == 0 and epoch % every == 0


def cluster(
    run: Run, state: TrainState, step: int, between: Callable[[], None] = lambda: None
) -> tuple[TrainState, dict[str, float]]:
    """Remakes the method's clusters at an epoch boundary and compares them with the old ones.

    There are no scores while the method has nothing to cluster.

    Args:
      run: whose clusters they are.
      state: before the step; only that before the first one is used up.
      step: that comes next.
      between: called before each batch of images; what it raises ends the clustering.
    """
    method, epoch = run.method, step // run.sizes.steps_per_epoch
    start_time = time.perf_counter()
    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    before = sharding.fetch(method.assignments(state.extra))
    key = keys.at(run.config.seed, "clustering", step)
    state, metrics = method.cluster(
        state, partial(visit_all, run, epoch, between=between), epoch, key
    )
    state, scores = jax.device_put(state, places), jax.device_get(metrics)
    if not scores:
        return state, {}
    scores["cluster_seconds"] = time.perf_counter() - start_time
    after = sharding.fetch(method.assignments(state.extra))
    if after is not None:
        from swav_jax.evals.agreement import compare  # scikit-learn takes a second

        scores |= compare(before, after, run.source.labels)
    return state, scores


def visit_all(
    run: Run,
    epoch: int,
    fold: Fold,
    carry: PyTree,
    view: str,
    between: Callable[[], None] = lambda: None,
) -> PyTree:
    """Folds `carry = fold(carry, batch)` over the training set.

    A batch waits until the one before is folded. Otherwise batches pile up on the devices, and the
    devices of one CPU, which share its threads, can wait in different batches for each other.

    Args:
      run: whose training set it is.
      epoch: decides order and augmentation of the view "crops", which differ from training's.
      fold: a pure function, compiled once for as long as the same function is passed; it gets float
        `crops` [b, n, S, S, 3] and `index` [b], which for rows without an image is beyond the data;
        b is the batch, or one of the `train.accumulate` parts of it.
      carry: what the fold returns; its buffers are reused.
      view: "crops" for the training crops of whole batches, "center" for one crop of every image.
      between: called before each batch.
    """
    data = run.config.data
    if view == "crops":
        steps, epoch = run.sizes.steps_per_epoch, FIRST_EPOCH_OF_PASSES + epoch
        for batch in training_batches(run, epoch * steps, (epoch + 1) * steps):
            between()
            placed = sharding.put_batch(run.mesh, batch)
            carry = _fold_crops(jax.block_until_ready(carry), placed, epoch, fold, run)
        return carry

    resize, crop = data.eval_resize, data.eval_crop
    if not (resize or crop or common_size(run.source)):  # as they are, they cannot be stacked
        resize = crop = max(size for _, size, *_ in data.crops)
    centers = one_pass(
        run.read_source,
        run.sizes.batch_size // run.config.train.accumulate,
        resize=resize,
        crop=crop,
        process=jax.process_index(),
        processes=jax.process_count(),
        max_bad_fraction=data.max_bad_fraction,
        threads=data.threads,
    )
    for center in centers:
        between()
        placed = sharding.put_batch(run.mesh, center)
        carry = _fold_center(jax.block_until_ready(carry), placed, fold, run)
    return carry


@partial(jax.jit, static_argnames=("fold", "run"), donate_argnames="carry")
def _fold_crops(
    carry: PyTree, batch: TrainBatch, epoch: Int[Array, ""], fold: Fold, run: Run
) -> PyTree:
    parts = run.config.train.accumulate
    whole = Visited(run.augment(batch, epoch=epoch), batch.index)
    if parts == 1:
        return fold(carry, whole)
    pieces = split(whole, parts)
    return lax.scan(lambda carry, piece: (fold(carry, piece), None), carry, pieces)[0]


@partial(jax.jit, static_argnames=("fold", "run"), donate_argnames="carry")
def _fold_center(carry: PyTree, batch: EvalBatch, fold: Fold, run: Run) -> PyTree:
    settings = run.config.augment
    images = normalise(batch.image.astype(jnp.float32) / 255, settings.mean, settings.std)
    index = jnp.where(batch.valid, batch.index, np.iinfo(np.int32).max)
    return fold(carry, Visited((images[:, None],), index))
