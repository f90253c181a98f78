"""The task `svm`: linear SVMs on fixed features, with all labels and with a few."""

from collections.abc import Callable
from functools import partial

import numpy as np
from ml_collections import ConfigDict

from swav_jax.data.sources.source import DataError
from swav_jax.data.unreadable import were_read
from swav_jax.evals import svm
from swav_jax.evals.labelled import Images, labelled, readable_pair, unusable
from swav_jax.evals.multilabels import multi_labels
from swav_jax.features import features
from swav_jax.runtime.storage import AnyPath
from swav_jax.tasks.figures import record
from swav_jax.trained import at_random, open_trained

Features = Callable[[Images], np.ndarray]


def svm_task(config: ConfigDict, workdir: AnyPath) -> None:
    """Adds to `results.json` the mAP of images that show several classes, or accuracy if one each.

    Raises:
      ConfigError: the checkpoint is of another network.
      CheckpointError: there is no intact checkpoint.
      DataError: there are no labelled images, or `eval.labels_csv` cannot be used.
    """
    trained = open_trained(config, workdir)
    train, test, settings = trained.train_images, trained.test_images(), trained.config
    found, before = (
        _figures(partial(features, network), train, test, settings.eval.labels_csv, settings.seed)
        for network in (trained, at_random(trained))
    )
    record(
        trained,
        "svm",
        found,
        at_random=before,
        protocol=f"LinearSVC, cost by cross-validation in {svm.FOLDS} folds; low-shot: the same "
        f"cost, mean and standard deviation of {svm.DRAWS} draws",
        train=train,
        test=test,
    )


def _figures(
    features: Features, train: Images, test: Images | None, labels_csv: str, seed: int
) -> svm.Figures:
    several = multi_labels(train.source, test.source, labels_csv) if test else None
    if test and several:
        parts = []
        for images, (numbers, labels) in zip((train, test), several, strict=True):
            rows = features(images)[numbers]
            kept = were_read(rows)
            parts += [rows[kept], labels.present[kept]]
        return svm.mean_average_precision(*parts, seed=seed)
    pair = labelled(train, test) if test else None
    if pair is None:
        why = unusable(train, test) if test else "there are no test images; eval.test can name them"
        raise DataError(
            f"--task=svm: {why}. The classes of images that show several come from eval.labels_csv"
        )
    known, labels, judged, truth = readable_pair(features, pair)
    if len(np.unique(labels)) < 2:
        raise DataError(
            "--task=svm has nothing to learn: all images that it can read are of one class"
        )
    return svm.accuracy(known, labels, judged, truth, seed=seed)
