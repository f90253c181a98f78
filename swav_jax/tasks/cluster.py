"""The task `cluster`: every image's cluster, as a file and as folders."""

import jax
from absl import logging
from ml_collections import ConfigDict

from swav_jax.answers import agreement_before_training, find_clusters
from swav_jax.evals.features import one_vector
from swav_jax.runtime.storage import AnyPath
from swav_jax.tables import check_format
from swav_jax.tasks.figures import record
from swav_jax.tasks.sorting import check_folder, sort_into
from swav_jax.trained import open_trained


def cluster_task(config: ConfigDict, workdir: AnyPath) -> None:
    """Writes `clusters.csv` and `cluster_sizes.csv`, or `.parquet`; see `answers.find_clusters`.

    Raises:
      ConfigError: the checkpoint is of another network, there are no such clusters, a package is
        missing, or there is something else in the folder to sort into.
      CheckpointError: there is no intact checkpoint.
      DataError: there are no images.
      OSError: a file cannot be written.
    """
    trained = open_trained(config, workdir)
    settings, images = trained.config.eval, trained.images()
    check_format(settings.format)
    if settings.sort_into:
        data_dirs = trained.config.data.data_dir, settings.data_dir
        check_folder(settings.sort_into, images.source, data_dirs)
    found = find_clusters(trained, images)
    if jax.process_index() == 0:
        suffix, members = settings.format or "csv", found.members()
        for name, table in (("clusters", found.table()), ("cluster_sizes", members)):
            table.save(workdir / f"{name}.{suffix}")
            logging.info("wrote %s", workdir / f"{name}.{suffix}")
        if empty := [str(cluster) for cluster in members["cluster"][members["images"] == 0]]:
            logging.info("empty clusters: %s", ", ".join(empty))
    before, protocol = agreement_before_training(trained, images, found), found.how
    if before and "k-means" not in protocol:
        protocol += f"; before training k-means, {one_vector(settings.layer)} features"
    record(trained, "cluster", found.figures(), at_random=before, protocol=protocol, images=images)
    if settings.sort_into and jax.process_index() == 0:  # last: a file that fails loses no figures
        sort_into(settings.sort_into, found, by=settings.sort_by)
