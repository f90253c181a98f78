"""The task `report`: one page that shows what a run has learnt and how it went."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from swav_jax.data.sources.source import DataError
from swav_jax.features import features
from swav_jax.ops.similarity import similarity, unit
from swav_jax.pages.report import Looked, report
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
    """The images that could be read, with their features and clusters."""
    images = trained.images()
    pooled, embedding = (features(trained, images, layer) for layer in ("pooled", "embedding"))
    readable = np.setdiff1d(np.arange(images.source.size), sorted(images.source.unreadable))
    if not len(readable):
        raise DataError(f"none of the {images.source.size} images can be read")
    labels = images.source.labels
    if labels is None:
        labels = np.full(images.source.size, -1, np.int32)
    part = images.source.part(readable, labels[readable], images.source.class_names)
    clusters, scores, count, kind = _clusters(trained, embedding[readable], pooled[readable])
    return Looked(
        images=dataclasses.replace(images, source=part),
        features=pooled[readable],
        clusters=clusters,
        scores=scores,
        total=count,
        kind=kind,
        unreadable=images.source.size - len(readable),
    )


def _clusters(
    trained: Trained, embedding: np.ndarray, pooled: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int, str]:
    from sklearn.cluster import KMeans

    sets = trained.variables["params"].get("prototypes")
    if sets:
        cosines = np.asarray(similarity(unit(jnp.asarray(embedding)), unit(sets["prototypes0"])))
        return cosines.argmax(1), cosines.max(1), cosines.shape[1], "nearest prototype of the run"
    count = min(100, len(pooled))
    rows = np.asarray(unit(jnp.asarray(pooled)))
    found = KMeans(count, random_state=0).fit(rows)
    cosines = rows @ np.asarray(unit(found.cluster_centers_)).T
    return found.labels_, cosines.max(1), count, "k-means of the features"
