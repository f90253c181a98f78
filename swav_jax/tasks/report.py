"""The task `report`: one page that shows what a run has learnt and how it went."""

import dataclasses

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from swav_jax.answers import find_clusters, read_rows
from swav_jax.pages.looked import Looked
from swav_jax.pages.report import report
from swav_jax.runtime.storage import AnyPath, write_whole
from swav_jax.trained import Trained, open_trained
from swav_jax.workdir import REPORT


def report_task(config: ConfigDict, workdir: AnyPath) -> None:
    """Writes `report.html`, which opens without network.

    Raises:
      ConfigError: the checkpoint is of another network.
      CheckpointError: there is no intact checkpoint.
      DataError: the images cannot be read.
    """
    trained = open_trained(config, workdir)
    looked = look(trained)
    if jax.process_index() == 0:
        page = report(trained.config, workdir, looked)
        write_whole(workdir / REPORT, page)
        logging.info("%s, %.1f MB", workdir / REPORT, len(page) / 1e6)


def look(trained: Trained) -> Looked:
    """The images that can be read, with their features and clusters.

    Raises:
      DataError: none can be read.
    """
    images = trained.images()
    rows = read_rows(trained, images, "pooled")
    found = find_clusters(_enough_images(trained, len(rows.numbers)), images)
    # A file may have become unreadable, or readable, between the two.
    numbers, here, there = np.intersect1d(
        rows.numbers, found.rows.numbers, assume_unique=True, return_indices=True
    )
    labels = images.source.labels
    if labels is None:
        labels = np.full(images.source.size, -1, np.int32)
    part = images.source.part(numbers, labels[numbers], images.source.class_names)
    return Looked(
        images=dataclasses.replace(images, source=part),
        names=rows.names[here].tolist(),
        features=rows.features[here],
        clusters=found.clusterings[0].cluster[there],
        scores=found.clusterings[0].score[there],
        total=found.sizes[0],
        how=found.how,
        unreadable=images.source.size - len(numbers),
    )


def _enough_images(trained: Trained, images: int) -> Trained:
    """The network with a number of clusters that k-means of these images can have."""
    config = trained.config.copy_and_resolve_references()
    if config.eval.clusters > images:
        config.eval.clusters = max(1, images // 5)
    return dataclasses.replace(trained, config=config)
