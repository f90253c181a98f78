"""The task `curate`: which images are alike, which like no other, and which of them to take."""

import math

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from swav_jax.answers import Rows, read_rows
from swav_jax.config import ConfigError
from swav_jax.evals.curation import Duplicates, diverse_subset, duplicates_and_outliers
from swav_jax.evals.features import one_vector
from swav_jax.runtime.processes import warn
from swav_jax.runtime.storage import AnyPath
from swav_jax.tables import Table, replace
from swav_jax.tasks.figures import record
from swav_jax.trained import open_trained

SHOWN = 10  # groups of duplicates in the log


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
    layer = one_vector(settings.layer)
    rows = read_rows(trained, images, layer)
    alike, far = duplicates_and_outliers(
        rows.features, settings.neighbours, settings.duplicate_threshold
    )
    single, count = np.flatnonzero(alike.kept), len(rows.features)
    several = math.ceil(settings.outlier_share * len(single)) if len(single) > 1 else 0
    figures = {
        "curated": count,
        "duplicate_groups": 1 + int(alike.group.max()),
        "duplicates": count - len(single),
        "outliers": several,
    }
    wanted = settings.subset
    if wanted > len(single):
        raise ConfigError(
            f"eval.subset is {wanted}, but of {count} images {len(single)} are no "
            "duplicates of others: ask for that many or fewer"
        )
    if jax.process_index() == 0:
        _write_duplicates(rows, alike, workdir)
        outliers = {"path": rows.names[far.number[:several]], "score": far.score[:several]}
        Table(outliers).save(workdir / "outliers.csv")
        if wanted:
            logging.info("choosing %d of %d images", wanted, len(single))
            chosen = single[diverse_subset(rows.features[single], wanted, trained.config.seed)]
            text = "".join(f"{name}\n" for name in rows.names[chosen])
            replace(workdir / "subset.txt", lambda path: path.write_bytes(text.encode()))
    if alike.chained:
        warn(
            f"{alike.chained} of {count} images are one group of near-duplicates: to this network "
            "different images are more alike than eval.duplicate_threshold "
            f"{settings.duplicate_threshold:g}. Raise it, towards 1"
        )
    record(
        trained,
        "curate",
        figures | ({"subset": wanted} if wanted else {}),
        protocol=f"cosine similarity of whitened {layer} features, duplicates from "
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
