"""Prototypes among the parameters: H sets of K directions that embeddings are compared with.

They are `params["prototypes"]["prototypes0"]` and so on, each [K, D].
"""

from typing import Any

import jax
from jaxtyping import Array, Key

from swav_jax.methods.contract import Prototypes
from swav_jax.models.encoder import BatchStats, Crops, Encoder, Params
from swav_jax.models.heads import init_prototypes
from swav_jax.ops.similarity import unit


def init_with_prototypes(
    encoder: Encoder, key: Key[Array, ""], crops: Crops, prototypes: int, heads: int
) -> tuple[Params, BatchStats]:
    """A fresh encoder, and `heads` sets of K prototypes beside it, as PyTorch draws them."""
    key, *head_keys = jax.random.split(key, 1 + heads)
    variables = encoder.init(key, crops, train=True)
    head = encoder.head
    sets = {
        f"prototypes{h}": init_prototypes(k, prototypes, head.dim, head.param_dtype)
        for h, k in enumerate(head_keys)
    }
    return variables["params"] | {"prototypes": sets}, variables["batch_stats"]


def sets_of(saved: dict[str, Any], temperature: float) -> list[Prototypes]:
    """The sets among saved parameters, for the scores z . c of embeddings z."""
    sets = saved["params"]["prototypes"]
    return [
        Prototypes("embedding", unit(sets[f"prototypes{h}"]), temperature) for h in range(len(sets))
    ]


def on_unit_sphere(params: Params) -> Params:
    """The parameters with prototypes of unit length, where SwAV and SeLa-v2 step from."""
    return params | {"prototypes": jax.tree.map(unit, params["prototypes"])}
