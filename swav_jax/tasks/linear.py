"""The task `linear`: how well a linear classifier on the frozen backbone classifies test images."""

from ml_collections import ConfigDict

from swav_jax.runtime.storage import AnyPath
from swav_jax.tasks.classifier import Protocol, labelled_images, train_classifier
from swav_jax.tasks.figures import record
from swav_jax.trained import open_trained


def linear_task(config: ConfigDict, workdir: AnyPath) -> None:
    """Trains the classifier in the folder `linear` of the workdir and records its accuracies.

    Raises:
      ConfigError: the checkpoint is of another network, or the folder holds another classifier.
      CheckpointError: there is no intact checkpoint.
      DataError: there are no labelled images.
    """
    trained = open_trained(config, workdir)
    train, test = labelled_images(trained, "linear")
    settings = trained.config.eval
    protocol = Protocol(
        settings.linear_epochs, settings.min_scale, settings.linear_lr, weight_decay=1e-6
    )
    figures = train_classifier(trained, "linear", train.source, protocol)
    record(trained, "linear", figures, protocol=str(protocol), train=train, test=test)
