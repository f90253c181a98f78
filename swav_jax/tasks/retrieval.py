"""The task `retrieval`: which training images are nearest to a test image, and of its class."""

import csv
import io
from functools import partial

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from swav_jax.data.sources.source import DataError
from swav_jax.evals.knn import neighbours
from swav_jax.evals.labelled import Images
from swav_jax.evals.retrieval import retrieval
from swav_jax.features import features
from swav_jax.runtime.storage import AnyPath
from swav_jax.tasks.figures import record
from swav_jax.trained import Trained, at_random, open_trained
from swav_jax.workdir import NEIGHBOURS, write_whole


def retrieval_task(config: ConfigDict, workdir: AnyPath) -> None:
    """Writes `neighbours.csv`; with labels, adds mAP, precision and recall to `results.json`.

    Raises:
      ConfigError: the checkpoint is of another network.
      CheckpointError: there is no intact checkpoint.
      DataError: there are no test images.
    """
    trained = open_trained(config, workdir)
    settings = trained.config.eval
    train, test = trained.train_images(), trained.test_images()
    if test is None:
        raise DataError(
            "retrieval needs images that ask, of eval.test or else data.test, and finds others for "
            "them, of eval.train or else data.train"
        )
    table = nearest(trained, train, test, settings.neighbours)
    if jax.process_index() == 0:
        write_whole(workdir / NEIGHBOURS, table)
        logging.info("%s has the nearest images of %d", workdir / NEIGHBOURS, test.source.size)
    found, before = (
        retrieval(partial(features, network), train, test, ks=settings.retrieval_k)
        for network in (trained, at_random(trained))
    )
    if found:
        record(
            trained,
            "retrieval",
            found,
            at_random=before,
            protocol="cosine similarity, pooled features, classes as relevance",
            train=train,
            test=test,
        )


def nearest(trained: Trained, train: Images, test: Images, k: int) -> str:
    """The k most similar training images of each test image, as CSV; without unreadable ones."""
    known, asking = features(trained, train), features(trained, test)
    numbers, asked = (np.flatnonzero(rows.any(axis=1)) for rows in (known, asking))
    known, asking = known[numbers], asking[asked]
    similarities, who = map(np.asarray, neighbours(known, asking, min(k, len(numbers))))
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(("path", "rank", "neighbour", "similarity"))
    for image, found, values in zip(asked, numbers[who], similarities, strict=True):
        path = test.source.describe(int(image))
        for rank, (other, value) in enumerate(zip(found, values, strict=True), start=1):
            lines.writerow((path, rank, train.source.describe(int(other)), f"{value:.6f}"))
    return file.getvalue()
