"""The task `finetune`: how well the network classifies when it is trained on all labels."""

from ml_collections import ConfigDict

from swav_jax.runtime.storage import AnyPath
from swav_jax.tasks.classifier import Protocol, labelled_images, train_classifier
from swav_jax.tasks.figures import record
from swav_jax.trained import open_trained


def finetune_task(config: ConfigDict, workdir: AnyPath) -> None:
    """Trains backbone and classifier in the folder `finetune` of the workdir, records accuracies.

    Errors are those of `linear_task`.
    """
    trained = open_trained(config, workdir)
    train, test = labelled_images(trained, "finetune")
    settings = trained.config.eval
    protocol = fine_tuning(settings.finetune_epochs, settings.min_scale, lr=0.2, backbone_lr=0.01)
    figures = train_classifier(trained, "finetune", train.source, protocol)
    record(trained, "finetune", figures, protocol=str(protocol), train=train, test=test)


def fine_tuning(epochs: int, min_scale: float, *, lr: float, backbone_lr: float) -> Protocol:
    """The published protocol, in which the rates fall at 12 and 16 of 20 epochs."""
    drops = round(0.6 * epochs), round(0.8 * epochs)
    return Protocol(epochs, min_scale, lr, backbone_lr, drops=drops)
