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
from swav_jax.data.augment import normalise
from swav_jax.data.batches import eval_batches, train_batches
from swav_jax.gradients import split
from swav_jax.setup import Setup

Fold = Callable[[PyTree, dict[str, Any]], PyTree]


def visit_all(setup: Setup, epoch: int, fold: Fold, carry: PyTree, view: str) -> PyTree:
    """Folds `carry = fold(carry, batch)` over the training set.

    Args:
      setup: the run.
      epoch: decides order and augmentation of the view "crops".
      fold: a pure function, compiled once for as long as the same function is passed; it gets float
        `crops` [b, n, S, S, 3] and `index` [b], which for rows without an image is beyond the data;
        b is the batch, or one of the `train.accumulate` parts of it.
      carry: what the fold returns; its buffers are reused.
      view: "crops" for the training crops of whole batches, "center" for one crop of every image.
    """
    data, hosts = setup.config.data, {"host": jax.process_index(), "hosts": jax.process_count()}
    shared = hosts | {"max_bad_fraction": data.max_bad_fraction, "threads": data.threads}
    if view == "crops":
        steps = setup.run.steps_per_epoch
        batches = train_batches(
            setup.source,
            data.crops,
            setup.run.batch_size,
            seed=setup.config.seed,
            first_step=epoch * steps,
            last_step=(epoch + 1) * steps,
            **shared,
        )
        for batch in batches:
            carry = _fold_crops(carry, sharding.put_batch(setup.mesh, batch), epoch, fold, setup)
        return carry

    batches = eval_batches(
        setup.source,
        setup.run.batch_size // setup.config.train.accumulate,
        resize=data.eval_resize,
        crop=data.eval_crop,
        **shared,
    )
    for batch in batches:
        index = np.where(batch["valid"], batch["index"], np.iinfo(np.int32).max)
        placed = sharding.put_batch(setup.mesh, {"image": batch["image"], "index": index})
        carry = _fold_center(carry, placed, fold, setup)
    return carry


@partial(jax.jit, static_argnames=("fold", "setup"), donate_argnames="carry")
def _fold_crops(
    carry: PyTree, batch: dict[str, Any], epoch: Int[Array, ""], fold: Fold, setup: Setup
) -> PyTree:
    crops = setup.augment(batch["crops"], batch["sample"], epoch=epoch)
    whole, parts = {"crops": crops, "index": batch["index"]}, setup.config.train.accumulate
    if parts == 1:
        return fold(carry, whole)
    pieces = split(whole, parts)
    return lax.scan(lambda carry, piece: (fold(carry, piece), None), carry, pieces)[0]


@partial(jax.jit, static_argnames=("fold", "setup"), donate_argnames="carry")
def _fold_center(carry: PyTree, batch: dict[str, Any], fold: Fold, setup: Setup) -> PyTree:
    settings = setup.config.augment
    images = normalise(batch["image"].astype(jnp.float32) / 255, settings.mean, settings.std)
    return fold(carry, {"crops": (images[:, None],), "index": batch["index"]})
