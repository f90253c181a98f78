"""PCL: find an image's key among old keys, and its cluster among other clusters.

Li et al., 2021, "Prototypical Contrastive Learning of Unsupervised Representations". The trained
encoder embeds one crop of an image as query q, the key encoder, a moving average of it, another as
key k. For the first epochs the loss is InfoNCE, the softmax of q . k / tau against a queue of L
keys. Then, before each epoch, k-means clusters the key encoder's embeddings of the centre crops of
all images into K, 2K and 4K clusters, and ProtoNCE, averaged over these levels, is added:
-log(exp(q . p_s / phi_s) / sum_k exp(q . p_k / phi_k)), where p_s is the prototype (the centroid,
scaled to unit length) of the image's cluster, k goes over the batch's prototypes and r others, and
phi_k is the concentration of cluster k (`ops/concentration.py`).

Versions 1 and 2 differ in head, augmentation and schedule only, so in their configurations. Keys,
batch norm without shuffling and multi-crop are as in MoCo: the key is crop 1, every other crop is a
query for the same key and the same prototypes. The negative prototypes are drawn once for the
whole batch, and an image's cluster is that of its centre crop.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from swav_jax import sharding
from swav_jax.methods import contract, momentum
from swav_jax.methods.momentum import Views
from swav_jax.models.encoder import Encoder
from swav_jax.ops import bank, queue
from swav_jax.ops.concentration import concentration
from swav_jax.ops.contrastive import Contrast, info_nce, proto_nce, sample_negatives
from swav_jax.ops.kmeans import KMeans, kmeans, random_rows
from swav_jax.ops.metrics import embedding_std
from swav_jax.ops.precision import at_least_float32
from swav_jax.ops.similarity import unit


@dataclass(frozen=True)
class PCL(contract.Method):
    """Settings of PCL; the defaults are the published ones for ImageNet."""

    encoder: Encoder
    prototypes: int  # K of the coarsest level
    heads: int  # PCL has a single embedding
    temperature: float = 0.2  # tau, and the mean of phi
    momentum: float = 0.999  # of the key encoder
    queue_length: int = 16384  # L
    negative_prototypes: int = 16384  # r
    warmup_epochs: int = 20  # without prototypes
    granularity: tuple[int, ...] = (1, 2, 4)  # clusters of each level, in multiples of K
    kmeans_iterations: int = 20
    kmeans_restarts: int = 5

    cluster_every_epochs: ClassVar[int] = 1

    def check(self, sizes: contract.Sizes) -> list[str]:
        """Refuses levels without enough images or negatives and a queue that batches do not fill.

        Warns of clusters of few images.
        """
        warnings = momentum.check(
            self.encoder,
            self.queue_length,
            batch_size=sizes.batch_size,
            views=sizes.views,
            images=sizes.size,
        )
        warmup = self.warmup_epochs * sizes.steps_per_epoch
        longest = max(sizes.total_steps, sizes.epochs_steps)
        if warmup >= longest:
            raise ValueError(
                f"method.warmup_epochs {self.warmup_epochs} are not less than the "
                f"{longest / sizes.steps_per_epoch:g} epochs of the training: there would "
                "never be a cluster. A tenth of the training is usual."
            )
        if warmup >= sizes.total_steps:
            warnings.append(
                f"train.steps ends this trial after {sizes.total_steps} steps, before there are "
                f"clusters: they come after {warmup} steps. method.warmup_epochs=0 brings them at "
                "once."
            )
        if self.heads != 1:
            raise ValueError(
                f"PCL has one set of prototypes a level: set model.prototype_heads to 1, not "
                f"{self.heads}, and method.granularity to the levels."
            )
        if not self.granularity:
            raise ValueError("method.granularity is empty: PCL needs a level of clusters.")
        if min(self.granularity) < 1:
            raise ValueError(f"method.granularity {self.granularity} has a number below 1.")
        least, most = min(self._levels), max(self._levels)
        if most > sizes.size:
            raise ValueError(
                f"k-means cannot make {most} clusters (model.prototypes {self.prototypes} x "
                f"method.granularity {most // self.prototypes}) of {sizes.size} images. Set "
                f"model.prototypes to at most {sizes.size * self.prototypes // most}, better to "
                f"{max(sizes.size * self.prototypes // most // 10, 1)}."
            )
        bank.check_devices(sizes.data_devices, sizes.size)
        left = least - min(least, sizes.batch_size)
        if not 1 <= self.negative_prototypes <= left:
            raise ValueError(
                f"method.negative_prototypes {self.negative_prototypes} must lie between 1 and the "
                f"{left} prototypes that are left of {least} when a batch of {sizes.batch_size} "
                "images has its own. Lower it, lower data.batch_size or raise model.prototypes."
            )
        if sizes.size < contract.IMAGES_PER_CLUSTER * most:
            warnings.append(
                f"The finest level has {sizes.size / most:.1f} images a cluster; with fewer than "
                f"{contract.IMAGES_PER_CLUSTER} the centroids say little. Lower model.prototypes "
                "or method.granularity."
            )
        return warnings

    @property
    def _levels(self) -> tuple[int, ...]:
        """The number of clusters of each level."""
        return tuple(self.prototypes * multiple for multiple in self.granularity)

    def init(
        self, key: jax.Array, crops: contract.Crops, size: int
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Two equal encoders, random keys in the queue, and every image in no cluster."""
        encoder_key, queue_key = jax.random.split(key)
        params, batch_stats = momentum.init(self.encoder, encoder_key, crops)
        head = self.encoder.head
        extra = {
            "key_encoder": params,
            "keys": queue.random_unit(queue_key, self.queue_length, head.dim, head.param_dtype),
            "assignments": jnp.full((len(self._levels), bank.padded(size)), -1, jnp.int32),
            "centroids": [jnp.zeros((k, head.dim), head.param_dtype) for k in self._levels],
            "densities": [jnp.ones(k, head.param_dtype) for k in self._levels],
        }
        return params, batch_stats, extra

    def before_step(
        self, params: dict[str, Any], extra: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The key encoder follows."""
        slow = momentum.moving_average(extra["key_encoder"], params, self.momentum)
        return params, extra | {"key_encoder": slow}

    def forward(
        self,
        params: dict[str, Any],
        batch_stats: dict[str, Any],
        extra: dict[str, Any],
        crops: contract.Crops,
    ) -> tuple[Views, dict[str, Any]]:
        """Queries and keys."""
        return momentum.embed(self.encoder, params, extra["key_encoder"], batch_stats, crops)

    def loss(
        self,
        params: dict[str, Any],
        extra: dict[str, Any],
        outputs: Views,
        index: Int[Array, "B"],
        clock: contract.Clock,
    ) -> tuple[Float[Array, ""], tuple[dict[str, Any], contract.Metrics]]:
        """InfoNCE and the mean ProtoNCE, which is 0 while images have no clusters."""
        queries, keys = outputs
        instances = info_nce(queries, keys, extra["keys"], temperature=self.temperature)
        levels = [
            self._proto_nce(queries, positives, centroids, densities, key)
            for positives, centroids, densities, key in zip(
                bank.lookup(extra["assignments"], index),
                extra["centroids"],
                extra["densities"],
                jax.random.split(clock.key, len(self._levels)),
                strict=True,
            )
        ]
        clusters = jax.tree.map(lambda *x: jnp.mean(jnp.stack(x)), *levels)
        metrics = {
            "info_nce": instances.loss,
            "positive_accuracy": instances.accuracy,
            "proto_nce": clusters.loss,
            "prototype_accuracy": clusters.accuracy,
            "embedding_std": embedding_std(queries[:, 0]),
        }
        extra = extra | {"keys": queue.push(extra["keys"], keys)}
        return instances.loss + clusters.loss, (extra, metrics)

    def _proto_nce(
        self,
        queries: Float[Array, "B Q D"],
        positives: Int[Array, "B"],
        centroids: Float[Array, "K D"],
        densities: Float[Array, "K"],
        key: jax.Array,
    ) -> Contrast:
        negatives = sample_negatives(key, positives, len(centroids), self.negative_prototypes)
        return proto_nce(queries, centroids, densities, positives, negatives)

    def cluster(
        self, state: contract.TrainState, visit: contract.Visit, epoch: int, key: jax.Array
    ) -> tuple[contract.TrainState, contract.Metrics]:
        """K-means of the key encoder's embeddings of all centre crops, at each level."""
        if epoch < self.warmup_epochs:
            return state, {}
        head, images = self.encoder.head, state.extra["assignments"].shape[1]
        dtype = at_least_float32(head.dtype)
        memory = sharding.zeros((1, images, head.dim), dtype, sharding.MEMORY)
        state, memory = visit(self._remember, (state, memory), "center")
        rows, seen = memory[0], bank.written(memory)[0]
        found = [
            kmeans(
                rows,
                random_rows(level_key, rows, k, restarts=self.kmeans_restarts, valid=seen),
                iterations=self.kmeans_iterations,
                empty="split",
                valid=seen,
            )
            for k, level_key in zip(
                self._levels, jax.random.split(key, len(self._levels)), strict=True
            )
        ]
        assignments = jnp.stack([level.assignments for level in found])
        centroids, densities = _prototypes(found, self.temperature)
        clusters = {"assignments": assignments, "centroids": centroids, "densities": densities}
        metrics = {f"inertia_{k}": f.inertia for k, f in zip(self._levels, found, strict=True)}
        metrics |= bank.usage(assignments[:1], self._levels[0])
        return dataclasses.replace(state, extra=state.extra | clusters), metrics

    def assignments(self, extra: dict[str, Any]) -> Int[Array, "H N"]:
        """The clusters of each level."""
        return extra["assignments"]

    def _remember(
        self, carry: tuple[contract.TrainState, Array], batch: dict[str, Any]
    ) -> tuple[contract.TrainState, Array]:
        """Puts the key encoder's embeddings of a batch into the memory."""
        state, memory = carry
        embedding = momentum.embed_evaluated(
            self.encoder, state.extra["key_encoder"], state.batch_stats, batch["crops"]
        )
        return state, bank.write(memory, batch["index"], embedding)


@partial(jax.jit, static_argnames="temperature")
def _prototypes(
    levels: list[KMeans], temperature: float
) -> tuple[list[Float[Array, "K D"]], list[Float[Array, "K"]]]:
    """Each level's centroids on the unit sphere and their densities, whole on every device."""
    densities = [
        concentration(f.distances, f.assignments, len(f.centroids), temperature=temperature)
        for f in levels
    ]
    return sharding.gather(([unit(f.centroids) for f in levels], densities))
