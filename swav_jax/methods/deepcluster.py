"""DeepCluster: predict the k-means cluster of an image's features, and cluster anew each epoch.

Caron et al., 2018, "Deep clustering for unsupervised learning of visual features". At the start of
an epoch the pooled backbone features of all images' centre crops, in evaluation mode, are reduced
to 256 whitened principal components of unit length, x_n, and k-means solves

  min over C, a of sum_n |x_n - c_a(n)|^2;

an empty cluster is moved beside the centroid of a large one. The pseudo-labels a(n) are unrelated
to those of the last epoch, so the classifier on the backbone starts anew, without momentum. The
loss is the cross-entropy of softmax(W max(f, 0) + b) with a(n), over all crops; an epoch draws
images uniformly over clusters, so that large ones do not dominate.

As in the published code, clusters are made of the features f before the last ReLU where the
backbone returns those (AlexNet, VGG16), and the classifier reads them after it; the features of a
ResNet end with a ReLU. Unlike in that code, AlexNet and VGG16 have no dropout, and a small
cluster's images are repeated equally often (there: drawn with replacement).

The features need N F numbers until they are reduced, 10 GB for ImageNet with ResNet-50 and 21 GB
with AlexNet or VGG16, spread over all devices; only the clusters stay in the training state.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from swav_jax import sharding
from swav_jax.methods import checks
from swav_jax.methods.classifier import features_of, fresh, logits
from swav_jax.methods.contract import (
    BatchStats,
    Clock,
    Crops,
    Extra,
    Method,
    Metrics,
    Params,
    Prototypes,
    Sizes,
    TrainState,
    Visit,
    Visited,
)
from swav_jax.ops import bank
from swav_jax.ops.clusters import balanced_order, usage
from swav_jax.ops.kmeans import kmeans, random_rows
from swav_jax.ops.metrics import embedding_std
from swav_jax.ops.precision import at_least_float32
from swav_jax.ops.prediction import cross_entropy
from swav_jax.ops.similarity import unit
from swav_jax.ops.whitening import pca_whiten


@dataclass(frozen=True, kw_only=True)
class DeepCluster(Method):
    """Settings of DeepCluster; the defaults are those of the published code.

    The encoder's projection head is not used.
    """

    prototypes: int  # K, the clusters
    heads: int  # 1: there is one classifier
    components: int = 256  # principal components kept, at most the features' width
    kmeans_iterations: int = 20

    cluster_every_epochs: ClassVar[int] = 1
    without_momentum: ClassVar[tuple[str, ...]] = ("classifier",)
    prototypes_in: ClassVar[tuple[str, ...]] = ("params/classifier",)

    def init(
        self, key: Key[Array, ""], crops: Crops, size: int
    ) -> tuple[Params, BatchStats, Extra]:
        """The backbone, a classifier that the first clustering replaces, and no clusters."""
        encoder_key, classifier_key = jax.random.split(key)
        images = crops[0][:, 0]
        features, variables = self.encoder.init_with_output(
            encoder_key, images, train=True, method="features"
        )
        classifier = self._fresh(classifier_key, features.shape[-1])
        extra = {"assignments": jnp.full((1, bank.padded(size)), -1, jnp.int32)}
        return variables["params"] | {"classifier": classifier}, variables["batch_stats"], extra

    def forward(
        self, params: Params, batch_stats: BatchStats, extra: Extra, crops: Crops
    ) -> tuple[Float[Array, "B V F"], BatchStats]:
        """Backbone features of all crops, one pass for each entry of `crops`."""
        return features_of(self.encoder, params, batch_stats, crops)

    def loss(
        self,
        params: Params,
        extra: Extra,
        outputs: Float[Array, "B V F"],
        index: Int[Array, "B"],
        clock: Clock,
    ) -> tuple[Float[Array, ""], tuple[Extra, Metrics]]:
        """Cross-entropy of all crops with the pseudo-labels."""
        features = jax.nn.relu(outputs)
        labels = bank.lookup(extra["assignments"], index)[0]
        loss, accuracy = cross_entropy(logits(params["classifier"], features), labels)
        spread = embedding_std(jax.lax.stop_gradient(unit(features[:, 0])))
        return loss, (extra, {"cluster_accuracy": accuracy, "embedding_std": spread})

    def cluster(
        self, state: TrainState, visit: Visit, epoch: int, key: Key[Array, ""]
    ) -> tuple[TrainState, Metrics]:
        """New pseudo-labels and a fresh classifier."""
        start_key, empty_key, classifier_key = jax.random.split(key, 3)
        width = len(state.params["classifier"]["kernel"])
        rows = state.extra["assignments"].shape[1]
        dtype = at_least_float32(self.encoder.head.dtype)
        features = sharding.zeros((rows, width), dtype, sharding.SAMPLES)
        seen = sharding.zeros((rows,), dtype, sharding.SAMPLES)  # features may be zeros, as it is
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        copies = jax.tree.map(jnp.copy, variables)
        _, features, seen = visit(self._collect, (copies, features, seen), "center")
        seen = seen > 0
        x = unit(pca_whiten(features, min(self.components, width), valid=seen))
        del features  # they need the most memory
        found = kmeans(
            x,
            random_rows(start_key, x, self.prototypes, valid=seen),
            iterations=self.kmeans_iterations,
            split_empty=empty_key,
            valid=seen,
        )
        extra = state.extra | {"assignments": found.assignments[None]}
        params = state.params | {"classifier": self._fresh(classifier_key, width)}
        state = dataclasses.replace(state, params=params, extra=extra)
        return state, usage(extra["assignments"], self.prototypes)

    def epoch_order(self, extra: Extra, epoch: int, seed: int, size: int) -> np.ndarray | None:
        """Uniform over clusters."""
        labels = sharding.fetch(extra["assignments"])[0]
        return balanced_order(labels, size, np.random.RandomState([seed, epoch]))

    def prototype_sets(self, saved: dict[str, Any]) -> list[Prototypes]:
        """The classifier, which has learnt the clusters; those of k-means are not kept."""
        classifier = saved["params"]["classifier"]
        return [Prototypes("activated", classifier["kernel"].T, 1.0, classifier["bias"])]

    def check(self, sizes: Sizes) -> list[str]:
        """Refuses more clusters than there are images, and more than one classifier."""
        checks.one_head(self.heads, "DeepCluster has one classifier")
        bank.check_devices(sizes.data_devices, sizes.size)
        return checks.clusters(self.prototypes, sizes.images_per_epoch)

    def _collect(
        self, carry: tuple[PyTree, Array, Array], batch: Visited
    ) -> tuple[PyTree, Array, Array]:
        """Writes the features of a batch of centre crops, and that it saw them, at the images."""
        variables, features, seen = carry
        found: Any = self.encoder.apply(variables, batch.crops[0][:, 0], method="features")
        features = bank.write(features[None], batch.index, found[:, None])[0]
        ones = jnp.ones((len(found), 1, 1), seen.dtype)
        return variables, features, bank.write(seen[None, :, None], batch.index, ones)[0, :, 0]

    def _fresh(self, key: Key[Array, ""], width: int) -> Params:
        return fresh(key, width, self.prototypes, self.encoder.head.param_dtype)
