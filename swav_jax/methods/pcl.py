"""PCL: find an image's key among old keys, and its cluster among other clusters.

Li et al., 2021, "Prototypical Contrastive Learning of Unsupervised Representations". The trained
encoder embeds one crop of an image as query q, the key encoder, a moving average of it, another as
key k. For the first epochs the loss is InfoNCE, the softmax of q . k / tau against a queue of L
keys. Then, before each epoch, k-means clusters the key encoder's embeddings of the centre crops of
all images into K, 2K and 4K clusters, and ProtoNCE, averaged over these levels, is added:
-log(exp(q . p_s / phi_s) / sum_k exp(q . p_k / phi_k)), where p_s is the prototype (the centroid,
scaled to unit length) of the image's cluster, k runs over the batch's prototypes and r others, and
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
from jaxtyping import Array, Float, Int, Key, PyTree

from swav_jax import sharding
from swav_jax.methods import checks
from swav_jax.methods.contract import (
    BatchStats,
    Clock,
    Crops,
    Extra,
    Metrics,
    Params,
    Prototypes,
    Sizes,
    TrainState,
    Visit,
    Visited,
)
from swav_jax.methods.momentum import Momentum, Views
from swav_jax.ops import bank, queue
from swav_jax.ops.clusters import usage
from swav_jax.ops.concentration import concentration
from swav_jax.ops.contrastive import Contrast, info_nce, proto_nce, sample_negatives
from swav_jax.ops.kmeans import KMeans, kmeans, random_rows
from swav_jax.ops.metrics import alignment, embedding_std
from swav_jax.ops.precision import at_least_float32
from swav_jax.ops.similarity import unit


@dataclass(frozen=True, kw_only=True)
class PCL(Momentum):
    """Settings of PCL; the defaults are the published ones for ImageNet.

    The temperature is also the mean of phi.
    """

    prototypes: int  # K of the coarsest level
    heads: int  # 1: PCL has a single embedding
    queue_length: int = 16384  # L
    negative_prototypes: int = 16384  # r
    warmup_epochs: int = 20  # without prototypes
    granularity: tuple[int, ...] = (1, 2, 4)  # clusters of each level, in multiples of K
    kmeans_iterations: int = 20
    kmeans_restarts: int = 5

    cluster_every_epochs: ClassVar[int] = 1
    prototypes_in: ClassVar[tuple[str, ...]] = (
        "extra/centroids",
        "extra/densities",
        "extra/key_encoder",
        "batch_stats/key_encoder",
    )

    @property
    def levels(self) -> tuple[int, ...]:
        """The number of clusters of each level."""
        return tuple(self.prototypes * multiple for multiple in self.granularity)

    def init(
        self, key: Key[Array, ""], crops: Crops, size: int
    ) -> tuple[Params, BatchStats, Extra]:
        """Two equal encoders, random keys in the queue, and no image in a cluster."""
        params, batch_stats, extra = super().init(key, crops, size)
        head = self.encoder.head
        clusters = {
            "assignments": jnp.full((len(self.levels), bank.padded(size)), -1, jnp.int32),
            "centroids": [jnp.zeros((k, head.dim), head.param_dtype) for k in self.levels],
            "densities": [jnp.ones(k, head.param_dtype) for k in self.levels],
        }
        return params, batch_stats, extra | clusters

    def loss(
        self, params: Params, extra: Extra, outputs: Views, index: Int[Array, "B"], clock: Clock
    ) -> tuple[Float[Array, ""], tuple[Extra, Metrics]]:
        """InfoNCE and the mean ProtoNCE, which is 0 while images have no clusters."""
        queries, keys = outputs
        instances = info_nce(queries, keys, extra["keys"], temperature=self.temperature)
        levels = [
            self._proto_nce(queries, positives, centroids, densities, key)
            for positives, centroids, densities, key in zip(
                bank.lookup(extra["assignments"], index),
                extra["centroids"],
                extra["densities"],
                jax.random.split(clock.key, len(self.levels)),
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
            "alignment": alignment(keys, queries),
        }
        extra = extra | {"keys": queue.push(extra["keys"], keys)}
        return instances.loss + clusters.loss, (extra, metrics)

    def _proto_nce(
        self,
        queries: Float[Array, "B Q D"],
        positives: Int[Array, "B"],
        centroids: Float[Array, "K D"],
        densities: Float[Array, "K"],
        key: Key[Array, ""],
    ) -> Contrast:
        negatives = sample_negatives(key, positives, len(centroids), self.negative_prototypes)
        return proto_nce(queries, centroids, densities, positives, negatives)

    def cluster(
        self, state: TrainState, visit: Visit, epoch: int, key: Key[Array, ""]
    ) -> tuple[TrainState, Metrics]:
        """K-means of the key encoder's embeddings of all centre crops, at each level."""
        if epoch < self.warmup_epochs:
            return state, {}
        head, images = self.encoder.head, state.extra["assignments"].shape[1]
        dtype = at_least_float32(head.dtype)
        memory = sharding.zeros((1, images, head.dim), dtype, sharding.MEMORY)
        variables = {
            "params": state.extra["key_encoder"],
            "batch_stats": state.batch_stats["key_encoder"],
        }
        copies = jax.tree.map(jnp.copy, variables)
        _, memory = visit(self._remember, (copies, memory), "center")
        rows, seen = memory[0], bank.written(memory)[0]
        found = [
            kmeans(
                rows,
                random_rows(start_key, rows, k, restarts=self.kmeans_restarts, valid=seen),
                iterations=self.kmeans_iterations,
                split_empty=empty_key,
                valid=seen,
            )
            for k, (start_key, empty_key) in zip(
                self.levels, jax.random.split(key, (len(self.levels), 2)), strict=True
            )
        ]
        assignments = jnp.stack([level.assignments for level in found])
        centroids, densities = _prototypes(found, self.temperature)
        clusters = {"assignments": assignments, "centroids": centroids, "densities": densities}
        metrics = {f"inertia_{k}": f.inertia for k, f in zip(self.levels, found, strict=True)}
        metrics |= usage(assignments[:1], self.levels[0])
        return dataclasses.replace(state, extra=state.extra | clusters), metrics

    def _remember(self, carry: tuple[PyTree, Array], batch: Visited) -> tuple[PyTree, Array]:
        """Puts the key encoder's embeddings of a batch, in evaluation mode, into the memory."""
        variables, memory = carry
        embedding: Any = self.encoder.apply(variables, batch.crops, train=False)
        return variables, bank.write(memory, batch.index, embedding)

    def prototype_sets(self, saved: dict[str, Any]) -> list[Prototypes]:
        """The prototypes of each level."""
        levels = [
            Prototypes("embedding", saved["extra"]["centroids"][level], density)
            for level, density in sorted(saved["extra"]["densities"].items())
        ]
        if not all(level.directions.any() for level in levels):
            raise ValueError("PCL makes its first clusters after method.warmup_epochs")
        return levels

    def clustered_encoder(self, saved: dict[str, Any]) -> dict[str, PyTree]:
        """The key encoder."""
        return {
            "params": saved["extra"]["key_encoder"],
            "batch_stats": saved["batch_stats"]["key_encoder"],
        }

    def check(self, sizes: Sizes) -> list[str]:
        """Refuses levels without enough images or negatives; warns of clusters of few images."""
        checks.one_head(self.heads, "PCL has one set of prototypes for each method.granularity")
        if not self.granularity or min(self.granularity) < 1:
            raise ValueError(
                f"method.granularity {self.granularity} must name a multiple of model.prototypes, "
                "1 or more, for each level."
            )
        coarsest = min(self.levels)
        left = max(coarsest - sizes.batch_size, 0)
        if not 1 <= self.negative_prototypes <= left:
            raise ValueError(
                f"method.negative_prototypes {self.negative_prototypes} must lie between 1 and the "
                f"{left} prototypes that remain of {coarsest} besides those of the batch's "
                f"{sizes.batch_size} images. Lower it or data.batch_size, or raise "
                "model.prototypes."
            )
        bank.check_devices(sizes.data_devices, sizes.size)
        return [
            *super().check(sizes),
            *checks.first_phase(
                f"method.warmup_epochs {self.warmup_epochs}",
                self.warmup_epochs * sizes.steps_per_epoch,
                sizes,
                "there would never be a cluster",
                after=1,
            ),
            *checks.clusters(self.prototypes, sizes.size, multiple=max(self.granularity)),
        ]


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
