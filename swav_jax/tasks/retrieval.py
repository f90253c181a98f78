"""The task `retrieval`: which training images are nearest to a test image, and of its class."""

from functools import partial

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from swav_jax.data.sources.source import DataError
from swav_jax.data.unreadable import were_read
from swav_jax.evals.knn import neighbours, others
from swav_jax.evals.labelled import Images
from swav_jax.evals.retrieval import retrieval
from swav_jax.features import features
from swav_jax.runtime.storage import AnyPath
from swav_jax.tables import Table
from swav_jax.tasks.figures import LEAVE_ONE_OUT, record
from swav_jax.trained import Trained, at_random, open_trained
from swav_jax.workdir import NEIGHBOURS


def retrieval_task(config: ConfigDict, workdir: AnyPath) -> None:
    """Writes `neighbours.csv`; with labels, adds mAP, precision and recall to `results.json`.

    Without test images each training image asks for all others.

    Raises:
      ConfigError: the checkpoint is of another network.
      CheckpointError: there is no intact checkpoint.
      DataError: the images cannot be used.
    """
    trained = open_trained(config, workdir)
    settings = trained.config.eval
    train, unseen = trained.train_images, trained.test_images()
    test, protocol = unseen or train, "cosine similarity, pooled features, classes as relevance"
    table = nearest(trained, train, test, settings.neighbours)
    if jax.process_index() == 0:
        table.save(workdir / NEIGHBOURS)
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
            protocol=protocol if unseen else f"{LEAVE_ONE_OUT}, {protocol}",
            train=train,
            test=unseen,
        )


def nearest(trained: Trained, train: Images, test: Images, k: int) -> Table:
    """The k most similar training images of each test image, nearest first, a row each.

    Unreadable images are left out. If the test images are the training images, an image is no
    neighbour of itself.
    """
    known, asking = features(trained, train), features(trained, test)
    numbers, asked = (np.flatnonzero(were_read(rows)) for rows in (known, asking))
    if not (len(numbers) and len(asked)):
        raise DataError("retrieval needs images that can be read, to be found and to ask")
    known, asking = known[numbers], asking[asked]
    if test is train:
        similarities, who = others(known, k)
    else:
        similarities, who = map(np.asarray, neighbours(known, asking, k))
    # As objects: each name is in memory once, however many neighbours an image has.
    paths, known_paths = (
        np.array([images.source.name(int(i)) for i in readable], np.object_)
        for images, readable in ((test, asked), (train, numbers))
    )
    return Table(
        {
            "path": np.repeat(paths, who.shape[1]),
            "rank": np.tile(np.arange(1, 1 + who.shape[1]), len(who)),
            "neighbour": known_paths[who].ravel(),
            "similarity": similarities.ravel(),
        }
    )
