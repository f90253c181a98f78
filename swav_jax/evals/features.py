"""Features of a whole data set: one forward pass over it, rows in the data set's order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, PyTree

from swav_jax import sharding
from swav_jax.augment.photometric import MEAN, STD, normalise
from swav_jax.data.batch import EvalBatch
from swav_jax.data.sources.source import DataError
from swav_jax.data.unreadable import NO_FEATURES
from swav_jax.evals.labelled import Images
from swav_jax.models.encoder import Encoder
from swav_jax.ops.precision import at_least_float32

Apply = Callable[[PyTree, Float[Array, "B S S 3"]], Float[Array, "B F"]]

# The encoder's methods from images [B, S, S, 3] to rows, by what these are called elsewhere.
LAYERS = {"pooled": "features", "embedding": "embedding", "activated": "activated"}
STAGES = ("c1", "c2", "c3", "c4", "c5")  # their feature maps [B, h, w, C]; not every network has c1
AVERAGED = "_mean"  # after the name of a stage: the mean [B, C] of its map over all places


def pooled(encoder: Encoder, variables: PyTree, images: Images) -> Float32[np.ndarray, "N F"]:
    """The backbone's pooled features of every image, as `of_images` gives them."""
    return of_images(layer_of(encoder, "pooled"), variables, images)


def of_images(apply: Apply, variables: PyTree, images: Images) -> Float32[np.ndarray, "N F"]:
    """The features that `apply` gives every image, on the current mesh; NO_FEATURES if unreadable.

    Args:
      apply: from (variables, normalised images) to features, see `extract`.
      variables: the network's.
      images: N of them.
    """
    return collect(embed_images(apply, variables, images), images.source.size)


def embed_images(
    apply: Apply, variables: PyTree, images: Images, first: int = 0
) -> Iterator[tuple[Int[np.ndarray, "b"], Float32[np.ndarray, "b F"]]]:
    """`embed` of images on the current mesh, beginning with image number `first`."""
    mesh = jax.sharding.get_mesh()
    return embed(
        apply,
        variables,
        images.batches(multiple=mesh.shape["data"], first=first),
        place=partial(sharding.put_batch, mesh),
        mean=images.mean,
        std=images.std,
    )


@cache
def layer_of(encoder: Encoder, layer: str) -> Apply:
    """One function for each encoder and layer, so that it is compiled once.

    Args:
      encoder: the networks.
      layer: of LAYERS or STAGES, or a stage with AVERAGED behind it.
    """
    stage = layer.removesuffix(AVERAGED)

    def apply(variables: PyTree, images: Float[Array, "B S S 3"]) -> Any:
        if layer in LAYERS:
            return encoder.apply(variables, images, method=LAYERS[layer])
        maps: Any = encoder.apply(variables, images, method="stages")
        if layer == stage:
            return maps[stage]
        return maps[stage].mean((1, 2), dtype=at_least_float32(maps[stage].dtype))

    return apply


def one_vector(layer: str) -> str:
    """The layer by which whole images are compared: the layer itself, or the mean of a stage's map.

    Flattened, a map would compare what is at the same place only, and be of 100,352 numbers in c5
    of a ResNet-50 at 224 pixels.
    """
    return layer + AVERAGED if layer in STAGES else layer


def collect(
    rows_by_index: Iterable[tuple[Int[np.ndarray, "b"], Float32[np.ndarray, "b F"]]], size: int
) -> Float32[np.ndarray, "N F"]:
    """All features, each at its image's index; NO_FEATURES for an image in none of the batches.

    Args:
      rows_by_index: as `embed` gives them.
      size: N, images in the data set.

    Raises:
      ValueError: if there is no batch.
    """
    features = None
    for index, rows in rows_by_index:
        if features is None:
            features = np.full((size, *rows.shape[1:]), NO_FEATURES, np.float32)
        features[index] = rows
    if features is None:
        raise ValueError("no batches: there is no image to extract features from.")
    return features


def embed(
    apply: Apply,
    variables: PyTree,
    batches: Iterable[EvalBatch],
    *,
    place: Callable[[PyTree], PyTree] = jax.device_put,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> Iterator[tuple[Int[np.ndarray, "b"], Float32[np.ndarray, "b F"]]]:
    """Features batch by batch; the next batch is under way while one is being used.

    Args:
      apply: from (variables, normalised images) to features; compiled once for each function, so
        pass the same one each time.
      variables: the network's.
      batches: this process's rows, of one size.
      place: lays a batch over the devices.
      mean: of each channel.
      std: of each channel.

    Yields:
      the indices of the valid rows, of all processes, and their features.

    Raises:
      DataError: features that are NaN.
    """
    waiting: PyTree = None
    for batch in batches:
        ahead = _forward(apply, variables, place(batch), mean=tuple(mean), std=tuple(std))
        if waiting is not None:
            yield _collect(waiting)
        waiting = ahead
    if waiting is not None:
        yield _collect(waiting)


@partial(jax.jit, static_argnames=("apply", "mean", "std"))
def _forward(
    apply: Apply, variables: PyTree, batch: EvalBatch, *, mean: tuple, std: tuple
) -> PyTree:
    images = normalise(batch.image.astype(jnp.float32) / 255, mean, std)
    rows = apply(variables, images).astype(jnp.float32)
    return sharding.gather((batch.index, batch.valid, rows))


def _collect(gathered: PyTree) -> tuple[np.ndarray, np.ndarray]:
    index, valid, rows = jax.device_get(gathered)
    index, rows = index[valid], rows[valid]
    bad = np.isnan(rows).any(axis=tuple(range(1, rows.ndim)))
    if bad.any():
        raise DataError(
            f"the network's features are NaN for {np.count_nonzero(bad)} of {len(bad)} images, "
            f"number {index[bad][0]} first: its numbers overflow. Take an earlier checkpoint, or "
            "model.dtype=float32"
        )
    return index, rows
