"""A picture of the first batch: the crops of a few images as the network sees them."""

import io
from functools import partial

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from swav_jax import sharding
from swav_jax.data.batch import Batch, CropSpecs, TrainBatch
from swav_jax.methods.contract import Crops
from swav_jax.monitor.rules import LOOK_AT
from swav_jax.run import Run, cut_batch
from swav_jax.runtime.storage import AnyPath, write_whole
from swav_jax.runtime.xla import RUNS_ONCE

IMAGES = 8  # rows of the picture
GAP = 2  # pixels between crops
TALL = 96  # pixels: smaller crops are enlarged by a whole number


def cut_on_host(run: Run, batch: TrainBatch) -> Batch:
    """A batch with its crops on the host; if the devices cut them, the first LOOK_AT of all."""
    if isinstance(batch, Batch):
        return batch
    kinds = tuple(map(tuple, run.config.data.crops))
    placed = sharding.put_batch(run.mesh, batch)
    return jax.device_get(_cut_everywhere(placed, kinds, run.cached_size))


@partial(jax.jit, static_argnums=(1, 2), compiler_options=RUNS_ONCE)
def _cut_everywhere(
    batch: TrainBatch, kinds: CropSpecs, image_size: tuple[int, int] | None
) -> Batch:
    few = jax.tree.map(lambda rows: rows[:LOOK_AT], cut_batch(batch, kinds, image_size))
    return sharding.gather(few)


def draw_crops(run: Run, batch: Batch, step: int, path: AnyPath) -> None:
    """Draws the crops after the augmentation on the device: a row for each image.

    Args:
      run: whose augmentation it is.
      batch: on the host; its first IMAGES images are drawn.
      step: that the batch is of; only the first one replaces a picture, of a run that began before.
      path: of the PNG.
    """
    if step and path.exists():
        return
    epoch = step // run.sizes.steps_per_epoch  # on which the augmentation depends
    few = jax.tree.map(lambda rows: rows[:IMAGES], batch)
    augment = jax.jit(run.augment, compiler_options=RUNS_ONCE)
    with jax.set_mesh(sharding.make_mesh(devices=jax.local_devices()[:1])):  # by this process alone
        crops = jax.device_get(augment(few, epoch=epoch))
    picture = io.BytesIO()
    Image.fromarray(_table(crops, run)).save(picture, "PNG")
    write_whole(path, picture.getvalue())


def _table(crops: Crops, run: Run) -> UInt8[np.ndarray, "H W 3"]:
    """The crops of an image beside each other on white, those of the next image below."""
    mean, std = (np.asarray(run.config.augment[name]) for name in ("mean", "std"))
    largest = max(kind.shape[2] for kind in crops)
    scale = max(1, -(-TALL // largest))
    columns = []
    for kind in crops:
        colours = (255 * np.clip(kind * std + mean, 0, 1)).round().astype(np.uint8)
        enlarged = colours.repeat(scale, axis=2).repeat(scale, axis=3)
        below = scale * (largest - kind.shape[2]) + GAP
        space = ((0, 0), (0, 0), (0, below), (0, GAP), (0, 0))
        columns += [*np.moveaxis(np.pad(enlarged, space, constant_values=255), 1, 0)]
    rows = np.concatenate(columns, axis=2)  # [images, S, width, 3]
    return rows.reshape(-1, *rows.shape[2:])
