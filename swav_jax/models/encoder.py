"""The encoder: a backbone and a projection head, run over the crops of a batch."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from swav_jax.models.backbones import Backbone
from swav_jax.models.heads import ProjectionHead
from swav_jax.ops.precision import at_least_float32

Params = dict[str, Any]
BatchStats = dict[str, Any]
# An entry for each kind of crop, n of each image. "_": the kinds differ in n and S.
Crops = Sequence[Float[Array, "B _n _S _S 3"]]


class Encoder(nn.Module):
    """Images to embeddings of unit length (Caron et al. 2020, multi-crop).

    There is one backbone pass for each resolution and one head pass over all crops, so batch-norm
    statistics are those of one resolution in the backbone and of all crops in the head.
    """

    backbone: Backbone
    head: ProjectionHead

    def __call__(self, crops: Crops, train: bool) -> Float[Array, "B V D"]:
        """Embeds all crops of a batch, V = sum of n, in at least float32.

        `crops` has one entry for each kind of crop, in the order of the embeddings; consecutive
        entries of one size share a backbone pass.
        """
        # Crops are merged behind the images: the images are what is sharded over devices.
        features = []
        for _, group in groupby(crops, key=lambda crop: crop.shape[2]):
            x = jnp.concatenate(list(group), axis=1)
            merged = self.backbone(x.reshape(-1, *x.shape[2:]), train)
            features.append(merged.reshape(*x.shape[:2], -1))
        x = jnp.concatenate(features, axis=1)
        z = self.head(x.reshape(-1, x.shape[-1]), train)
        z = z.reshape(*x.shape[:2], -1).astype(at_least_float32(z.dtype))
        squared_norm = jnp.square(z).sum(-1, keepdims=True)
        return z * lax.rsqrt(jnp.maximum(squared_norm, 1e-24))

    def features(self, x: Float[Array, "B S S 3"], train: bool = False) -> Float[Array, "B F"]:
        """Pooled backbone features, what evaluations read."""
        return self.backbone(x, train)

    def activated(self, x: Float[Array, "B S S 3"]) -> Float[Array, "B F"]:
        """Pooled features after a ReLU, what DeepCluster's classifier reads."""
        return nn.relu(self.features(x))

    def stages(self, x: Float[Array, "B S S 3"]) -> dict[str, Float[Array, "B _h _w _C"]]:
        """The backbone's feature maps by stage."""
        return self.backbone.stages(x, train=False)

    def embedding(self, x: Float[Array, "B S S 3"]) -> Float[Array, "B D"]:
        """Embeddings of unit length, one of each image, what is compared with prototypes."""
        return self((x[:, None],), train=False)[:, 0]


def embed(
    encoder: Encoder, params: Params, batch_stats: BatchStats, crops: Crops
) -> tuple[Float[Array, "B V D"], BatchStats]:
    """Unit-length embeddings of all crops in train mode, and the new batch statistics."""
    variables = {"params": params, "batch_stats": batch_stats}
    embedding, updates = encoder.apply(variables, crops, train=True, mutable=["batch_stats"])
    return embedding, updates["batch_stats"]
