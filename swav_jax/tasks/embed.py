"""The task `embed`: what the network gives for each image, as a file."""

import jax
from absl import logging
from ml_collections import ConfigDict

from swav_jax.answers import embeddings, read_rows
from swav_jax.runtime.storage import AnyPath
from swav_jax.tables import check_format
from swav_jax.tasks.figures import record
from swav_jax.trained import open_trained


def embed_task(config: ConfigDict, workdir: AnyPath) -> None:
    """Writes `embeddings.npz`, `.parquet` or `.csv`, as `eval.format` says.

    Raises:
      ConfigError: the checkpoint is of another network, or that has no such layer, or a package
        is missing.
      CheckpointError: there is no intact checkpoint.
      DataError: there are no images.
      OSError: the file cannot be written.
    """
    trained = open_trained(config, workdir)
    settings, images = trained.config.eval, trained.images()
    check_format(settings.format)
    rows = read_rows(trained, images, settings.layer)
    if jax.process_index() == 0:
        path = workdir / f"embeddings.{settings.format or 'npz'}"
        embeddings(rows).save(path)
        logging.info("wrote %s", path)
    shape = "x".join(map(str, rows.features.shape[1:]))
    figures = {
        "embedded": len(rows.numbers),
        "unreadable": images.source.size - len(rows.numbers),
        "numbers_an_image": shape,
    }
    record(trained, "embed", figures, protocol=f"layer {settings.layer}", images=images)
