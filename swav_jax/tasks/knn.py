"""The task `knn`: how well labels carry over to test images by their nearest neighbours."""

from functools import partial

from ml_collections import ConfigDict

from swav_jax.data.sources.source import DataError
from swav_jax.evals.knn import knn, knn_protocol
from swav_jax.evals.labelled import unusable
from swav_jax.features import features
from swav_jax.runtime.storage import AnyPath
from swav_jax.tasks.figures import LEAVE_ONE_OUT, record
from swav_jax.trained import Trained, at_random, open_trained


def knn_task(config: ConfigDict, workdir: AnyPath) -> None:
    """Adds the k-NN accuracies, also of the network before training, to `results.json`.

    Without test images each training image is classified by all others.

    Raises:
      ConfigError: the checkpoint is of another network.
      CheckpointError: there is no intact checkpoint.
      DataError: there are no labelled test images.
    """
    trained = open_trained(config, workdir)
    settings = trained.config.eval
    train, unseen = trained.train_images, trained.test_images()
    test = unseen or train  # leave-one-out
    protocol = knn_protocol(settings.knn_k, settings.knn_temperature)

    def scores(network: Trained) -> dict[str, float]:
        found = knn(
            partial(features, network),
            train,
            test,
            ks=settings.knn_k,
            temperature=settings.knn_temperature,
        )
        if found is None:
            raise DataError(f"--task=knn: {unusable(train, test)}")
        return found

    record(
        trained,
        "knn",
        scores(trained),
        at_random=scores(at_random(trained)),
        protocol=protocol if unseen else f"{LEAVE_ONE_OUT}, {protocol}",
        train=train,
        test=unseen,
    )
