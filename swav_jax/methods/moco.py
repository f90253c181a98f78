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

Keys are not shuffled over devices. The original's batch norm uses each device's part of the batch,
so a query and its key could be matched by the statistics of the same few images; shuffling puts the
key among other images. Here the statistics are those of the whole batch on any number of devices,
and no part of a batch can be recognised by its own. What shuffling does not remove either: the key
comes from the step's batch and the negatives do not, which matters less the larger the batch is.
Batch norm over parts, by `model.bn_groups` or `train.accumulate` above 1, brings the problem back.
"""

from dataclasses import dataclass

from jaxtyping import Array, Float, Int

from swav_jax.methods.contract import Clock, Extra, Metrics, Params
from swav_jax.methods.momentum import Momentum, Views
from swav_jax.ops import queue
from swav_jax.ops.contrastive import info_nce
from swav_jax.ops.metrics import alignment, embedding_std


@dataclass(frozen=True, kw_only=True)
class MoCo(Momentum):
    """Settings of MoCo; the defaults are those of version 2 for ImageNet."""

    def loss(
        self, params: Params, extra: Extra, outputs: Views, index: Int[Array, "B"], clock: Clock
    ) -> tuple[Float[Array, ""], tuple[Extra, Metrics]]:
        """InfoNCE against the queue; then the keys enter it."""
        queries, keys = outputs
        loss, accuracy = info_nce(queries, keys, extra["keys"], temperature=self.temperature)
        metrics = {
            "positive_accuracy": accuracy,
            "embedding_std": embedding_std(queries[:, 0]),
            "alignment": alignment(keys, queries),
        }
        return loss, (extra | {"keys": queue.push(extra["keys"], keys)}, metrics)
