"""Supervised: predict an image's class from its features, on a backbone that is frozen or not.

With a frozen backbone f this is the linear evaluation of self-supervised features (as Caron et al.,
2020, section 4.1): the loss is the cross-entropy of softmax(W f(x) + b) with the class of x, over
all crops, and only W and b are trained. Otherwise it is fine-tuning, for which the backbone can
have a lower learning rate than the classifier.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Int32, Key, PyTree

from swav_jax.methods.classifier import features_of, fresh, logits
from swav_jax.methods.contract import (
    BatchStats,
    Clock,
    Crops,
    Extra,
    Method,
    Metrics,
    Params,
    Sizes,
)
from swav_jax.ops.metrics import embedding_std
from swav_jax.ops.prediction import cross_entropy
from swav_jax.ops.similarity import unit


@dataclass(frozen=True, kw_only=True)
class Supervised(Method):
    """Settings of supervised training.

    The encoder's projection head is not used. An image without a label takes no part in the loss.
    """

    labels: Int32[np.ndarray, "N"] | None = field(compare=False, repr=False)
    prototypes: int  # K, the classes
    # Of the learning rate; with 0 the backbone is frozen, and so are its batch-norm statistics,
    # which then normalise in training as they do in evaluation.
    backbone_lr_factor: float = 1.0

    evaluators: ClassVar[tuple[str, ...]] = ("classify",)

    def init(
        self, key: Key[Array, ""], crops: Crops, size: int
    ) -> tuple[Params, BatchStats, Extra]:
        """The backbone, a classifier with W from N(0, 0.01^2) and b = 0, and the labels."""
        encoder_key, classifier_key = jax.random.split(key)
        features, variables = self.encoder.init_with_output(
            encoder_key, crops[0][:, 0], train=True, method="features"
        )
        classifier = fresh(
            classifier_key, features.shape[-1], self.prototypes, self.encoder.head.param_dtype
        )
        labels = np.full(size, -1, np.int32) if self.labels is None else self.labels
        params = variables["params"] | {"classifier": classifier}
        return params, variables["batch_stats"], {"labels": jnp.asarray(labels)}

    @property
    def _backbone_is_frozen(self) -> bool:
        return self.backbone_lr_factor == 0

    def frozen(self, clock: Clock) -> dict[str, Bool[Array, ""] | bool]:
        """The backbone, if its learning rate is 0: it does not decay either."""
        return {"backbone": self._backbone_is_frozen}

    def lr_factors(self) -> dict[str, float]:
        """The backbone's own learning rate."""
        return {"backbone": self.backbone_lr_factor}

    def forward(
        self, params: Params, batch_stats: BatchStats, extra: Extra, crops: Crops
    ) -> tuple[Float[Array, "B V F"], BatchStats]:
        """Backbone features of all crops, one pass for each entry of `crops`."""
        frozen = self._backbone_is_frozen
        outputs, batch_stats = features_of(
            self.encoder, params, batch_stats, crops, train=not frozen
        )
        return (lax.stop_gradient(outputs) if frozen else outputs), batch_stats

    def loss(
        self,
        params: Params,
        extra: Extra,
        outputs: Float[Array, "B V F"],
        index: Int[Array, "B"],
        clock: Clock,
    ) -> tuple[Float[Array, ""], tuple[Extra, Metrics]]:
        """Cross-entropy of all crops with the classes."""
        scores = logits(params["classifier"], outputs)
        loss, accuracy = cross_entropy(scores, extra["labels"][index])
        spread = embedding_std(lax.stop_gradient(unit(outputs[:, 0])))
        return loss, (extra, {"class_accuracy": accuracy, "embedding_std": spread})

    def classify(self, variables: PyTree, images: Float[Array, "B S S 3"]) -> Float[Array, "B K"]:
        """The scores of all classes, in evaluation mode."""
        features: Any = self.encoder.apply(variables, images, method="features")
        return logits(variables["params"]["classifier"], features[:, None])[:, 0]

    def check(self, sizes: Sizes) -> list[str]:
        """Refuses images without labels, of one class, and of more classes than outputs."""
        if self.labels is None:
            raise ValueError(
                "method supervised learns from labels, and the training images have none: see "
                "docs/data.md for what is read as labels."
            )
        classes = np.unique(self.labels[self.labels >= 0])
        if len(classes) < 2:
            raise ValueError(
                "method supervised has nothing to learn: all training images with a label are of "
                "one class."
            )
        if (needed := 1 + int(classes.max())) > self.prototypes:
            raise ValueError(
                f"model.prototypes {self.prototypes} is the number of classes that method "
                f"supervised tells apart, and the training images have {needed}: set it to that."
            )
        return []
