"""MoCo-v2: find an image's key, embedded by a slowly moving encoder, among a queue of old keys.

He et al., 2020, "Momentum Contrast for Unsupervised Visual Representation Learning", and Chen et
al., 2020, "Improved Baselines with Momentum Contrastive Learning": the trained encoder embeds one
crop of an image as its query q, the key encoder another as its key k, and the loss is
-log(exp(q . k / tau) / (exp(q . k / tau) + sum_l exp(q . n_l / tau))) over the L keys n of earlier
batches in the queue. Before each step theta_k <- m theta_k + (1 - m) theta_q, parameters only:
the key encoder keeps batch-norm statistics of its own.

The key is crop 1 of an image, a large one; the query is crop 0. With multi-crop every crop but the
key's is a query for the same key and the loss is their mean: as in SwAV, small crops predict and
are never predicted. (Figure 3 of SwAV's paper, the ablation of multi-crop, has SimCLR but no MoCo.)

There is no shuffling of the keys over devices. The original has batch norm of each device's part
of the batch, so that a query and its key would bear the mark of the same few images; shuffling puts
the key among others. Here the statistics are those of the whole batch on any number of devices:
the order of rows does not change them, and no part of a batch has a mark of its own. What shuffling
could not remove either is that the key comes from the step's batch and the negatives do not, and
this differs the less the larger the batch is. Batch norm over parts, by `model.bn_groups` or
`train.accumulate` above 1, brings the marks back.
"""

from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Int

from swav_jax.methods import contract, momentum
from swav_jax.methods.momentum import Views
from swav_jax.models.encoder import Encoder
from swav_jax.ops import queue
from swav_jax.ops.contrastive import info_nce
from swav_jax.ops.metrics import embedding_std


@dataclass(frozen=True)
class MoCo(contract.Method):
    """Settings of MoCo; the defaults are those of version 2 for ImageNet."""

    encoder: Encoder
    prototypes: int  # MoCo has none
    heads: int
    temperature: float = 0.2  # tau
    momentum: float = 0.999  # m
    queue_length: int = 65536  # L

    def check(self, sizes: contract.Sizes) -> list[str]:
        """Refuses a queue that whole batches do not fill; warns of marks in the batch norm."""
        return momentum.check(
            self.encoder,
            self.queue_length,
            batch_size=sizes.batch_size,
            views=sizes.views,
            images=sizes.size,
        )

    def init(
        self, key: jax.Array, crops: contract.Crops, size: int
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Two equal encoders; random keys in the queue, which is in use from the first step."""
        encoder_key, queue_key = jax.random.split(key)
        params, batch_stats = momentum.init(self.encoder, encoder_key, crops)
        head = self.encoder.head
        keys = queue.random_unit(queue_key, self.queue_length, head.dim, head.param_dtype)
        return params, batch_stats, {"key_encoder": params, "keys": keys}

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
    ) -> tuple[jax.Array, tuple[dict[str, Any], contract.Metrics]]:
        """InfoNCE against the queue; then the keys enter it."""
        queries, keys = outputs
        loss, accuracy = info_nce(queries, keys, extra["keys"], temperature=self.temperature)
        metrics = {
            "positive_accuracy": accuracy,
            "embedding_std": embedding_std(queries[:, 0]),
        }
        return loss, (extra | {"keys": queue.push(extra["keys"], keys)}, metrics)
