"""Features of a data set, kept in the workdir: computed once, and going on after a kill.

They lie in `features/<key>/`, in pieces named by their first row. The key is made of all that
decides about them: the network, the layer, how images are cut and normalised, and the images.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from io import BytesIO

import jax
import numpy as np
from jaxtyping import Float32

from swav_jax.data.sources.source import Source
from swav_jax.data.unreadable import check
from swav_jax.evals.features import embed_images, layer_of, of_images
from swav_jax.evals.labelled import Images
from swav_jax.runtime import machine
from swav_jax.runtime.processes import from_process_0
from swav_jax.runtime.progress import progress
from swav_jax.runtime.storage import AnyPath, entries, in_bucket, make_folder, write_whole
from swav_jax.trained import Trained
from swav_jax.workdir import FEATURES

PIECE = 2**25  # numbers of a piece at most: 128 MB
SECONDS = 30.0  # of work that a kill may cost, about


def features(
    trained: Trained, images: Images, layer: str = "pooled"
) -> Float32[np.ndarray, "N *F"]:
    """What a layer gives for every image; zeros for those in `images.source.unreadable`.

    Nothing is kept of images in memory, nor where the workdir cannot be written.

    Args:
      trained: the network, in whose workdir the features are kept.
      images: N of them.
      layer: as `evals.features.layer_of` takes it; of a stage the maps are [N, h, w, C].

    Raises:
      DataError: too many images cannot be read.
    """
    source = images.source
    writable = in_bucket(trained.workdir) or os.access(trained.workdir, os.W_OK)
    if not from_process_0(source.lasting and writable):
        with jax.set_mesh(trained.mesh):
            return of_images(layer_of(trained.encoder, layer), trained.variables, images)
    about = {
        "network": trained.identity,
        "layer": layer,
        "dtype": trained.config.model.dtype,
        "resize": images.resize,
        "crop": images.crop,
        "mean": list(images.mean),
        "std": list(images.std),
        "images": _fingerprint(source),
    }
    text = json.dumps(about, indent=2)
    folder = trained.workdir / FEATURES / hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    if jax.process_index() == 0:
        make_folder(folder)
    mine = jax.process_index() == 0 and not in_bucket(folder)
    with machine.one_at_a_time(folder / ".lock") if mine else nullcontext():
        if jax.process_index() == 0:
            write_whole(folder / "about.json", text)
        pieces = _all_pieces(trained, images, layer, folder)
    whole = np.concatenate([np.load(BytesIO(path.read_bytes())) for path, _ in pieces])
    unreadable = np.isnan(whole.reshape(len(whole), -1)[:, 0])
    source.unreadable.update(np.flatnonzero(unreadable).tolist())
    check(source, images.max_bad_fraction)
    whole[unreadable] = 0
    return whole


def _all_pieces(
    trained: Trained, images: Images, layer: str, folder: AnyPath
) -> list[tuple[AnyPath, int]]:
    """Computes the pieces that are not in the folder yet, and returns all as `_pieces` does."""
    source, pieces = images.source, _pieces(folder)
    done = from_process_0(sum(rows for _, rows in pieces))
    if done == source.size:
        return pieces
    what = f"features of {source.size} images"
    with jax.set_mesh(trained.mesh), progress(what, source.size, done) as now:
        apply = layer_of(trained.encoder, layer)
        batches = embed_images(apply, trained.variables, images, first=done)
        for first, rows in _in_pieces(batches, done, source.size, now):
            if jax.process_index() == 0:
                written = BytesIO()
                np.save(written, rows)
                write_whole(folder / f"{first:09}-{len(rows)}.npy", written.getvalue())
    from_process_0(0)  # the others read when the last piece is there
    return _pieces(folder)


def _in_pieces(
    batches: Iterator[tuple[np.ndarray, np.ndarray]],
    first: int,
    size: int,
    now: Callable[[int], None],
) -> Iterator[tuple[int, Float32[np.ndarray, "n *F"]]]:
    """Consecutive rows, from `first` to the last; those of images that cannot be read are NaN."""
    begin, since, shape = first, time.monotonic(), (1,)
    waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def piece(end: int) -> tuple[int, np.ndarray]:
        rows = np.full((end - begin, *shape), np.nan, np.float32)
        for index, values in waiting:
            rows[index - begin] = values
        return begin, rows

    for index, values in batches:
        shape = values.shape[1:]
        if not len(index):
            continue
        waiting.append((index, values))
        end = int(index[-1]) + 1
        now(end)
        late = time.monotonic() - since > SECONDS
        if late or (end - begin) * math.prod(shape) >= PIECE:
            yield piece(end)
            waiting, begin, since = [], end, time.monotonic()
    if begin < size:
        yield piece(size)


def _pieces(folder: AnyPath) -> list[tuple[AnyPath, int]]:
    """The pieces in order, as far as none is missing, and how many rows each has."""
    pieces, done = [], 0
    for path in (entry for entry in entries(folder) if entry.suffix == ".npy"):
        first, rows = map(int, path.stem.split("-"))
        if first == done:
            pieces.append((path, rows))
            done += rows
    return pieces


def _fingerprint(source: Source) -> str:
    """Differs if another image, or another version of a file, is in another place."""
    digest = hashlib.blake2b(f"{source.pixels} {source.feature}".encode())
    for number in range(source.size):
        digest.update(f"{source.describe(number)}\0{source.changed(number)}\n".encode())
    return digest.hexdigest()
