"""The task `curate`: which images are alike, which like no other, and which of them to take."""

import math

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from swav_jax.answers import Rows, read_rows
from swav_jax.config import ConfigError
from swav_jax.evals.curation import (
    Duplicates,
    diverse_subset,
    near_duplicates,
    remoteness,
    whitened,
)
from swav_jax.evals.knn import others
from swav_jax.runtime.processes import warn
from swav_jax.runtime.storage import AnyPath
from swav_jax.tables import Table, replace
from swav_jax.tasks.figures import record
from swav_jax.trained import open_trained

SHOWN = 10  # groups of duplicates in the log
CHAIN = 0.1  # share of the images in one group from which the threshold looks too low


def curate_task(config: ConfigDict, workdir: AnyPath) -> None:
    """Writes `duplicates.csv`, `outliers.csv`, and with `eval.subset` also `subset.txt`.

    No image is changed or removed.

    Raises:
      ConfigError: the checkpoint is of another network, or the subset is too large.
      CheckpointError: there is no intact checkpoint.
      DataError: there are no images.
      OSError: a file cannot be written.
    """
    trained = open_trained(config, workdir)
    settings, images = trained.config.eval, trained.images()
    rows = read_rows(trained, images, settings.layer)
    features = rows.features.reshape(len(rows.features), -1)
    compared = whitened(features)
    nearest, who = others(compared, settings.neighbours)
    alike = near_duplicates(nearest, who, compared, settings.duplicate_threshold)
    single = np.flatnonzero(alike.kept)
    # Copies are no company: an outlier stays one however often it is there.
    nearest, _ = others(compared[single], settings.neighbours)
    far = remoteness(nearest)
    several = math.ceil(settings.outlier_share * len(single)) if len(single) > 1 else 0
    remote = np.argsort(-far, kind="stable")[:several]
    figures = {
        "curated": len(features),
        "duplicate_groups": 1 + int(alike.group.max()),
        "duplicates": len(features) - len(single),
        "outliers": len(remote),
    }
    wanted = settings.subset
    if wanted > len(single):
        raise ConfigError(
            f"eval.subset is {wanted}, but of {len(features)} images {len(single)} are no "
            "duplicates of others: ask for that many or fewer"
        )
    if jax.process_index() == 0:
        _write_duplicates(rows, alike, workdir)
        outliers = {"path": rows.names[single[remote]], "score": far[remote]}
        Table(outliers).save(workdir / "outliers.csv")
        if wanted:
            logging.info("choosing %d of %d images", wanted, len(single))
            chosen = single[diverse_subset(features[single], wanted, trained.config.seed)]
            text = "".join(f"{name}\n" for name in rows.names[chosen])
            replace(workdir / "subset.txt", lambda path: path.write_bytes(text.encode()))
    _warn_of_chains(alike, settings.duplicate_threshold)
    record(
        trained,
        "curate",
        figures | ({"subset": wanted} if wanted else {}),
        protocol=f"cosine similarity of whitened {settings.layer} features, duplicates from "
        f"{settings.duplicate_threshold:g}",
        images=images,
    )


def _write_duplicates(rows: Rows, alike: Duplicates, workdir: AnyPath) -> None:
    """`path,group,similarity,keep`: all images that are in a group, by groups."""
    members = np.flatnonzero(alike.group >= 0)
    members = members[np.argsort(alike.group[members], kind="stable")]
    columns = {
        "path": rows.names[members],
        "group": alike.group[members],
        "similarity": alike.similarity[members],
        "keep": alike.kept[members].astype(np.int32),
    }
    Table(columns).save(workdir / "duplicates.csv")
    for group in range(min(SHOWN, 1 + int(alike.group.max()))):
        logging.info("alike: %s", ", ".join(columns["path"][columns["group"] == group]))


def _warn_of_chains(alike: Duplicates, threshold: float) -> None:
    sizes = np.bincount(alike.group[alike.group >= 0], minlength=1)
    if sizes.max() > max(CHAIN * len(alike.group), 10):
        warn(
            f"{sizes.max()} of {len(alike.group)} images are one group of near-duplicates: to this "
            f"network different images are more alike than eval.duplicate_threshold {threshold:g}. "
            "Raise it, towards 1"
        )
