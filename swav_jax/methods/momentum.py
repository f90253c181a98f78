"""What MoCo and PCL share: a trained encoder and a slowly moving one whose embeddings it predicts.

He et al., 2020, "Momentum Contrast for Unsupervised Visual Representation Learning": one crop of
an image is embedded by the key encoder, the others are queries for the trained one. The key
encoder's parameters follow the trained ones and are in `extra` under "key_encoder"; its batch-norm
statistics are its own and are in `batch_stats` under the same name. A queue remembers old keys.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from swav_jax.methods import checks
from swav_jax.methods.contract import BatchStats, Crops, Extra, Method, Params, Sizes
from swav_jax.models.encoder import embed
from swav_jax.ops import queue

KEY_CROP = 1  # which of an image's crops the key encoder sees


class Views(NamedTuple):
    """Embeddings of unit length."""

    queries: Float[Array, "B Q D"]  # of all crops but the key's
    keys: Float[Array, "B D"]


@dataclass(frozen=True, kw_only=True)
class Momentum(Method):
    """A method with a key encoder and a queue of its keys; subclasses define the loss."""

    temperature: float = 0.2  # tau
    momentum: float = 0.999  # m, of the key encoder
    queue_length: int = 65536  # L

    def init(
        self, key: Key[Array, ""], crops: Crops, size: int
    ) -> tuple[Params, BatchStats, Extra]:
        """Two equal encoders; random keys in the queue, which is in use from the first step."""
        encoder_key, queue_key = jax.random.split(key)
        params, batch_stats, _ = super().init(encoder_key, crops, size)
        head = self.encoder.head
        keys = queue.random_unit(queue_key, self.queue_length, head.dim, head.param_dtype)
        extra = {"key_encoder": params, "keys": keys}
        return params, batch_stats | {"key_encoder": batch_stats}, extra

    def before_step(self, params: Params, extra: Extra) -> tuple[Params, Extra]:
        """Moves the key encoder towards the trained one."""
        slow = moving_average(extra["key_encoder"], params, self.momentum)
        return params, extra | {"key_encoder": slow}

    def forward(
        self, params: Params, batch_stats: BatchStats, extra: Extra, crops: Crops
    ) -> tuple[Views, BatchStats]:
        """Queries and keys."""
        statistics = {name: tree for name, tree in batch_stats.items() if name != "key_encoder"}
        query_crops, key_crops = split(crops)
        queries, statistics = embed(self.encoder, params, statistics, query_crops)
        keys, of_keys = embed(
            self.encoder, extra["key_encoder"], batch_stats["key_encoder"], key_crops
        )
        return Views(queries, keys[:, 0]), statistics | {"key_encoder": of_keys}

    def check(self, sizes: Sizes) -> list[str]:
        """Refuses a queue that whole batches do not fill; warns of keys that are easy to find."""
        checks.crops_to_compare(sizes)
        if not self.queue_length:
            raise ValueError(
                "method.queue_length is 0, but the keys in the queue are what an image's key is "
                f"told from: set it to a multiple of data.batch_size {sizes.batch_size}."
            )
        checks.queue_length(self.queue_length, sizes)
        warnings = checks.shared_statistics(self.encoder, sizes)
        if self.queue_length > sizes.size // 2:
            batches = max(sizes.size // 4 // sizes.batch_size, 1)
            warnings.append(
                f"method.queue_length {self.queue_length} is more than half of the {sizes.size} "
                "images: often an image's own older keys are among its negatives. Try "
                f"{batches * sizes.batch_size}, which is {batches} batches."
            )
        return warnings


def moving_average(slow: PyTree, fast: PyTree, momentum: float) -> PyTree:
    """Momentum * slow + (1 - momentum) * fast, leaf by leaf."""
    return jax.tree.map(lambda s, f: momentum * s + (1 - momentum) * f, slow, fast)


def split(
    crops: Crops,
) -> tuple[list[Float[Array, "B _n _S _S 3"]], list[Float[Array, "B 1 _S _S 3"]]]:
    """The crops for queries and the one for the key."""
    queries, keys, first = [], [], 0
    for images in crops:
        position = KEY_CROP - first
        first += images.shape[1]
        if 0 <= position < images.shape[1]:
            keys.append(images[:, position : position + 1])
            images = jnp.delete(images, position, axis=1, assume_unique_indices=True)
        if images.shape[1]:
            queries.append(images)
    return queries, keys
