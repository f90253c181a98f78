"""The task `knn`: evaluates the newest checkpoint of a workdir by its nearest neighbours."""

from pathlib import Path

import jax
from absl import logging
from ml_collections import ConfigDict

from swav_jax.checkpoints.read import load_metadata, load_variables
from swav_jax.config import ConfigError, train_split
from swav_jax.data.sources.source import DataError
from swav_jax.evals.knn import knn
from swav_jax.run import make_encoder, make_mesh, on_own_folder, open_images, open_test_images
from swav_jax.versions import changes
from swav_jax.weights.backbone import BACKBONE
from swav_jax.workdir import update_results


def knn_task(config: ConfigDict, workdir: Path) -> None:
    """Adds the k-NN accuracies to `results.json` and logs them.

    Raises:
      ConfigError: the checkpoint is of another network.
      CheckpointError: there is no intact checkpoint.
      DataError: there are no labelled test images.
    """
    changed = changes(load_metadata(workdir)["config"], config)
    if network := [change for change in changed if change.startswith("model.")]:
        raise ConfigError(
            f"the run in {workdir} has another network than --config ({'; '.join(network)}): use "
            "the config that it was trained with"
        )
    config = on_own_folder(config)
    train = open_images(config, train_split(config))
    test = open_test_images(config, train.source.pixels)
    with jax.set_mesh(make_mesh(config, jax.devices())):
        variables, _ = load_variables(workdir, BACKBONE)
        settings = config.eval
        scores = knn(
            make_encoder(config),
            variables,
            train,
            test,
            ks=settings.knn_k,
            temperature=settings.knn_temperature,
        )
    if scores is None:
        raise DataError(
            "k-NN needs labelled images that vote, of eval.train or else data.train, and labelled "
            "images that it can classify, of data.test"
        )
    if jax.process_index() == 0:
        update_results(workdir, "knn", scores)
    for name, value in scores.items():
        logging.info("knn %s: %.4g", name, value)
