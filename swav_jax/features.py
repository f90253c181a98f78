"""Features of a data set, kept in the workdir: computed once, and going on after a kill.

They lie in `features/<key>/`, in pieces named by their first row. The key is made of all that
decides about them: the network, the layer, how images are cut and normalised, and the images.
"""

import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from io import BytesIO

import jax
import numpy as np
from jaxtyping import Bool, Float32, Int

from swav_jax.data.passes import one_pass
from swav_jax.data.sources.source import Source
from swav_jax.data.unreadable import NO_FEATURES, check, were_read
from swav_jax.evals.features import embed_images, layer_of, of_images
from swav_jax.evals.labelled import Images
from swav_jax.runtime import machine
from swav_jax.runtime.processes import from_process_0, in_any
from swav_jax.runtime.progress import progress
from swav_jax.runtime.storage import AnyPath, entries, in_bucket, make_folder, write_whole
from swav_jax.trained import Trained
from swav_jax.workdir import FEATURES

PIECE = 2**25  # numbers of a piece at most: 128 MB
SECONDS = 30.0  # of work that a kill may cost, about


def features(
    trained: Trained, images: Images, layer: str = "pooled"
) -> Float32[np.ndarray, "N *F"]:
    """What a layer gives for every image; NO_FEATURES for those of `source.unreadable`.

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
    if from_process_0(source.lasting and writable):
        whole = _kept(trained, images, layer)
    else:
        with jax.set_mesh(trained.mesh):
            whole = of_images(layer_of(trained.encoder, layer), trained.variables, images)
    source.unreadable.update(np.flatnonzero(~were_read(whole)).tolist())  # of all processes
    check(source, images.max_bad_fraction)
    return whole


def _kept(trained: Trained, images: Images, layer: str) -> Float32[np.ndarray, "N *F"]:
    """The features from their folder, where those that are missing are put; see `features`."""
    source = images.source
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
        pieces = _pieces(folder)
        kept = from_process_0(sum(len(rows) for rows, _ in pieces))
        if kept < source.size:
            _compute_pieces(trained, images, layer, folder, kept)
            pieces = _pieces(folder)
        _read_again(trained, images, layer, pieces, kept)
    return np.concatenate([rows for rows, _ in pieces])


def _compute_pieces(
    trained: Trained, images: Images, layer: str, folder: AnyPath, done: int
) -> None:
    """Computes the pieces that are not in the folder yet: those after the first `done` images."""
    source = images.source
    what = f"features of {source.size} images"
    with jax.set_mesh(trained.mesh), progress(what, source.size, done) as now:
        apply = layer_of(trained.encoder, layer)
        batches = embed_images(apply, trained.variables, images, first=done)
        for first, rows in _in_pieces(batches, done, source.size, now):
            if jax.process_index() == 0:
                _write(folder / f"{first:09}-{len(rows)}.npy", rows)
    from_process_0(0)  # the others read when the last piece is there


def _read_again(
    trained: Trained,
    images: Images,
    layer: str,
    pieces: Sequence[tuple[np.ndarray, AnyPath]],
    kept: int,
) -> None:
    """Fills in, here and in the folder, kept rows of images that could not be read then.

    A package that reads them may have come since, or their rights may have changed.

    Args:
      trained: the network.
      images: as `features` takes them.
      layer: as `features` takes it.
      pieces: the rows and the file of each, in order.
      kept: how many rows were in the folder before; later ones have just been computed.
    """
    source = images.source
    bad = np.flatnonzero(np.concatenate([~were_read(rows) for rows, _ in pieces])[:kept])
    bad = bad[in_any(_readable(images, bad))] if len(bad) else bad
    if not len(bad):
        return
    part = source.part(bad, np.full(len(bad), -1, np.int32), source.class_names)
    images = dataclasses.replace(images, source=part, max_bad_fraction=1.0)
    found: dict[int, np.ndarray] = {}
    with jax.set_mesh(trained.mesh):
        for index, rows in embed_images(
            layer_of(trained.encoder, layer), trained.variables, images
        ):
            found.update(zip(bad[index].tolist(), rows, strict=True))
    first = 0
    for rows, path in pieces:
        here = [number for number in found if first <= number < first + len(rows)]
        for number in here:
            rows[number - first] = found[number]
        if here and jax.process_index() == 0:
            _write(path, rows)
        first += len(rows)


def _readable(images: Images, numbers: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Which of the images can be read now."""
    source, size = images.source, min(256, len(numbers))
    part = source.part(numbers, np.full(len(numbers), -1, np.int32), source.class_names)
    readable = np.zeros(len(numbers), bool)
    for batch in one_pass(
        part,
        size,
        resize=images.resize,
        crop=images.crop,
        max_bad_fraction=1.0,
        threads=images.threads,
    ):
        readable[batch.index[batch.valid]] = True
    return readable


def _write(path: AnyPath, rows: Float32[np.ndarray, "n *F"]) -> None:
    written = BytesIO()
    np.save(written, rows)
    write_whole(path, written.getvalue())


def _in_pieces(
    batches: Iterator[tuple[np.ndarray, np.ndarray]],
    first: int,
    size: int,
    now: Callable[[int], None],
) -> Iterator[tuple[int, Float32[np.ndarray, "n *F"]]]:
    """Consecutive rows, from `first` to the last; NO_FEATURES for images that cannot be read."""
    begin, since, shape = first, time.monotonic(), (1,)
    waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def piece(end: int) -> tuple[int, np.ndarray]:
        rows = np.full((end - begin, *shape), NO_FEATURES, np.float32)
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


def _pieces(folder: AnyPath) -> list[tuple[Float32[np.ndarray, "n *F"], AnyPath]]:
    """The rows and the file of each piece, in order, as far as none is missing."""
    pieces, done = [], 0
    for path in (entry for entry in entries(folder) if entry.suffix == ".npy"):
        if int(path.stem.partition("-")[0]) != done:
            continue
        # A power cut may leave a file empty, cut short or full of zeros.
        with suppress(EOFError, ValueError):
            pieces.append((np.load(BytesIO(path.read_bytes())), path))
            done += len(pieces[-1][0])
    return pieces


def _fingerprint(source: Source) -> str:
    """Differs if another image, or another version of a file, is in another place."""
    digest = hashlib.blake2b(f"{source.pixels} {source.feature}".encode())
    for number in range(source.size):
        digest.update(f"{source.name(number)}\0{source.changed(number)}\n".encode())
    return digest.hexdigest()
