"""The task `linear`: how well a linear classifier on the frozen backbone classifies test images."""

from functools import partial

from ml_collections import ConfigDict

from swav_jax.evals.logistic import fast_linear
from swav_jax.features import features
from swav_jax.runtime.storage import AnyPath
from swav_jax.tasks.classifier import (
    Protocol,
    check_classifier,
    labelled_images,
    train_classifier,
)
from swav_jax.tasks.figures import record
from swav_jax.trained import at_random, open_trained

LINEAR = "linear"  # folder in the workdir, of the classifier by SGD


def linear_task(config: ConfigDict, workdir: AnyPath) -> None:
    """Records the accuracies of a classifier for each protocol that `eval.linear_protocol` names.

    `sgd` trains it in the folder `linear` of the workdir; `fast` is logistic regression, also on
    the network before training.

    Raises:
      ConfigError: the checkpoint is of another network, or the folder holds another classifier.
      CheckpointError: there is no intact checkpoint.
      DataError: there are no labelled images.
    """
    trained = open_trained(config, workdir)
    train, test = labelled_images(trained, "linear")
    settings = trained.config.eval
    note = partial(record, trained, "linear", train=train, test=test)
    protocol = Protocol(
        settings.linear_epochs, settings.min_scale, settings.linear_lr, weight_decay=1e-6
    )
    if settings.linear_protocol != "fast":
        check_classifier(trained, LINEAR, train.source, protocol)
    if settings.linear_protocol != "sgd":
        fast, before = (
            fast_linear(partial(features, network), train, test, seed=trained.config.seed)
            for network in (trained, at_random(trained))
        )
        line = "logistic regression on centre crops, its penalty chosen on a fifth of them"
        note(fast, at_random=before, protocol=line, part="fast")
    if settings.linear_protocol != "fast":
        by_sgd = train_classifier(trained, LINEAR, train.source, protocol)
        note(by_sgd, protocol=str(protocol))
