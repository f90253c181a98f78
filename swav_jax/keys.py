"""Random keys: every purpose has a stream of its own, so that no two draws can share a key.

A key of a stream is folded further by what it is for: a step, an epoch, a sample. Streams are told
apart by a word each, because small numbers would collide: `split(key)[i] == fold_in(key, i)`.
Parameters are drawn from the seed's own key, as in all versions: a seed's random network stays.
"""

import zlib
from typing import Literal

import jax
from jaxtyping import Array, Int, Key

Purpose = Literal["images", "step", "clustering"]  # images: how they are augmented


def stream(seed: int, purpose: Purpose) -> Key[Array, ""]:
    """The root of a purpose's keys, for the seed of a run."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))


def at(seed: int, purpose: Purpose, number: int | Int[Array, ""]) -> Key[Array, ""]:
    """The key of a purpose's step or epoch `number`."""
    return jax.random.fold_in(stream(seed, purpose), number)
