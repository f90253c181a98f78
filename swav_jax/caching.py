"""Which training images are kept decoded while a run trains, as `data.cache` says."""

import math

import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from swav_jax import sharding
from swav_jax.config import ConfigError
from swav_jax.data.cached import Cached, decoded, replaced
from swav_jax.data.host_memory import bytes_decoded
from swav_jax.data.sizes import common_size, some_sizes
from swav_jax.data.sources.source import SizesDiffer, Source
from swav_jax.data.unreadable import check
from swav_jax.runtime import processes
from swav_jax.runtime.machine import memory
from swav_jax.runtime.xla import room_for_data


def size_on_devices(config: ConfigDict, source: Source, mesh: Mesh) -> tuple[int, int] | None:
    """H and W of the training images if they are to stay on the devices, else None.

    Raises:
      ConfigError: they should, and do not have one size or do not fit.
    """
    wanted = config.data.cache
    if wanted in ("host", "none") or config.data.crop_on == "host":
        return None
    size, rows = common_size(source), sharding.padded_rows(mesh, source.size)
    needed = rows // mesh.shape["data"] * 3 * math.prod(size) if size else 0
    room = room_for_data(mesh.local_devices[0])
    if size and needed <= room:
        return size
    if wanted == "device":
        gib = 2**30
        problem = (
            f"the training images take {needed / gib:.2f} GiB of each device, of which "
            f"{room / gib:.2f} are for data"
            if size
            else "the training images differ in size"
            if any(some_sizes(source))
            else "none of the training images that were looked at can be read"
        )
        raise ConfigError(f"data.cache is device, but {problem}: set data.cache=auto")
    return None


def check_host_memory(source: Source) -> None:
    """Checks that each process on this machine can keep decoded images in its memory.

    All processes call this at the same time.

    Raises:
      ConfigError: they do not.
    """
    sharing = processes.on_this_machine()
    needed, fits = bytes_decoded(source), memory() // 4 // sharing
    if needed > fits:
        gib = 2**30
        raise ConfigError(
            f"data.cache is host, but the decoded training images take about {needed / gib:.2f} "
            f"GiB, of which {fits / gib:.2f} fit into a quarter of the memory"
            f"{f' that {sharing} processes share' if sharing > 1 else ''}: set data.cache=auto"
        )


def on_devices(
    config: ConfigDict, source: Source, mesh: Mesh, image_size: tuple[int, int]
) -> Cached | None:
    """The training images on the devices; None if decoding finds that they differ in size.

    All processes call this at the same time.

    Args:
      config: of the run.
      source: the training images.
      mesh: of the devices.
      image_size: from `size_on_devices`.

    Raises:
      DataError: too many cannot be read, or `data.cache` is device and they differ in size.
    """
    data = config.data
    rows = sharding.padded_rows(mesh, source.size)
    differ, images, bad = False, None, np.zeros(source.size, bool)
    try:
        images, bad = decoded(
            source,
            image_size,
            sharding.rows_here(mesh, rows),
            max_bad_fraction=data.max_bad_fraction,
            threads=data.threads,
        )
    except SizesDiffer:
        differ = True
    # All processes go the same way, and know of all unreadable images.
    flags = processes.in_any(np.append(bad, differ))
    bad, differ = flags[:-1], flags[-1]
    if differ:
        if data.cache == "device":
            raise SizesDiffer(
                "data.cache is device, but the training images differ in size: set data.cache=auto"
            )
        logging.info("the images stay in their files: they differ in size")
        return None
    source.unreadable.update(np.flatnonzero(bad).tolist())
    check(source, data.max_bad_fraction)
    assert images is not None  # they do not differ in any process
    placed = sharding.put_batch(mesh, images.reshape(len(images), -1))
    return Cached(placed, image_size, replaced(bad, source))
