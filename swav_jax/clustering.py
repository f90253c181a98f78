"""One pass over the whole training set between epochs, folding a function over its batches."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, PyTree

from swav_jax import sharding
from swav_jax.augment.photometric import normalise
from swav_jax.data.batches import eval_batches, train_batches
from swav_jax.gradients import split
from swav_jax.run import Run

Fold = Callable[[PyTree, dict[str, Any]], PyTree]


def visit_all(run: Run, epoch: int, fold: Fold, carry: PyTree, view: str) -> PyTree:
    """Folds `carry = fold(carry, batch)` over the training set.

    Args:
      run: the run.
      epoch: decides order and augmentation of the view "crops".
      fold: a pure function, compiled once for as long as the same function is passed; it gets float
        `crops` [b, n, S, S, 3] and `index` [b], which for rows without an image is beyond the data;
        b is the batch, or one of the `train.accumulate` parts of it.
      carry: what the fold returns; its buffers are reused.
      view: "crops" for the training crops of whole batches, "center" for one crop of every image.
    """
    data, hosts = run.config.data, {"host": jax.process_index(), "hosts": jax.process_count()}
    shared = hosts | {"max_bad_fraction": data.max_bad_fraction, "threads": data.threads}
    if view == "crops":
        steps = run.sizes.steps_per_epoch
        batches = train_batches(
            run.source,
            data.crops,
            run.sizes.batch_size,
            seed=run.config.seed,
            first_step=epoch * steps,
            last_step=(epoch + 1) * steps,
            **shared,
        )
        for batch in batches:
            carry = _fold_crops(carry, sharding.put_batch(run.mesh, batch), epoch, fold, run)
        return carry

    batches = eval_batches(
        run.source,
        run.sizes.batch_size // run.config.train.accumulate,
        resize=data.eval_resize,
        crop=data.eval_crop,
        **shared,
    )
    for batch in batches:
        index = np.where(batch["valid"], batch["index"], np.iinfo(np.int32).max)
        placed = sharding.put_batch(run.mesh, {"image": batch["image"], "index": index})
        carry = _fold_center(carry, placed, fold, run)
    return carry


@partial(jax.jit, static_argnames=("fold", "run"), donate_argnames="carry")
def _fold_crops(
    carry: PyTree, batch: dict[str, Any], epoch: Int[Array, ""], fold: Fold, run: Run
) -> PyTree:
    crops = run.augment(batch["crops"], batch["sample"], epoch=epoch)
    whole, parts = {"crops": crops, "index": batch["index"]}, run.config.train.accumulate
    if parts == 1:
        return fold(carry, whole)
    pieces = split(whole, parts)
    return lax.scan(lambda carry, piece: (fold(carry, piece), None), carry, pieces)[0]


@partial(jax.jit, static_argnames=("fold", "run"), donate_argnames="carry")
def _fold_center(carry: PyTree, batch: dict[str, Any], fold: Fold, run: Run) -> PyTree:
    settings = run.config.augment
    images = normalise(batch["image"].astype(jnp.float32) / 255, settings.mean, settings.std)
    return fold(carry, {"crops": (images[:, None],), "index": batch["index"]})
