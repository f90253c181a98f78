"""Features of a whole data set: one forward pass over it, rows in the data set's order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, PyTree

from swav_jax import sharding
from swav_jax.augment.photometric import MEAN, STD, normalise

Apply = Callable[[PyTree, Float[Array, "B S S 3"]], Float[Array, "B F"]]


def extract(
    apply: Apply,
    variables: PyTree,
    batches: Iterable[dict[str, Any]],
    size: int,
    *,
    place: Callable[[PyTree], PyTree] = jax.device_put,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> Float32[np.ndarray, "N F"]:
    """The features of every image, at the image's index; zeros for an image in none of the batches.

    Args:
      apply: from (variables, normalised images) to features; compiled once for each function, so
        pass the same one each time.
      variables: the network's.
      batches: as `embed` takes them.
      size: N, images in the data set.
      place: lays a batch over the devices.
      mean: of each channel.
      std: of each channel.

    Raises:
      ValueError: if there is no batch.
    """
    features = None
    for index, rows in embed(apply, variables, batches, place=place, mean=mean, std=std):
        if features is None:
            features = np.zeros((size, rows.shape[1]), np.float32)
        features[index] = rows
    if features is None:
        raise ValueError("no batches: there is no image to extract features from.")
    return features


def embed(
    apply: Apply,
    variables: PyTree,
    batches: Iterable[dict[str, Any]],
    *,
    place: Callable[[PyTree], PyTree] = jax.device_put,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> Iterator[tuple[Int[np.ndarray, "b"], Float32[np.ndarray, "b F"]]]:
    """Features batch by batch; the next batch is under way while one is being used.

    Args:
      apply: from (variables, normalised images) to features.
      variables: the network's.
      batches: this host's rows, of one size: `image` uint8 [B, S, S, 3], `index` int32 [B], and
        `valid` bool [B], false for rows that only fill the batch up.
      place: lays a batch over the devices.
      mean: of each channel.
      std: of each channel.

    Yields:
      the indices of the valid rows, of all hosts, and their features.
    """
    waiting: PyTree = None
    for batch in batches:
        placed = place({name: batch[name] for name in ("image", "index", "valid")})
        ahead = _forward(apply, variables, placed, mean=tuple(mean), std=tuple(std))
        if waiting is not None:
            yield _collect(waiting)
        waiting = ahead
    if waiting is not None:
        yield _collect(waiting)


@partial(jax.jit, static_argnames=("apply", "mean", "std"))
def _forward(
    apply: Apply, variables: PyTree, batch: dict[str, Array], *, mean: tuple, std: tuple
) -> PyTree:
    images = normalise(batch["image"].astype(jnp.float32) / 255, mean, std)
    rows = apply(variables, images).astype(jnp.float32)
    return sharding.gather((batch["index"], batch["valid"], rows))


def _collect(gathered: PyTree) -> tuple[np.ndarray, np.ndarray]:
    index, valid, rows = jax.device_get(gathered)
    return index[valid], rows[valid]
