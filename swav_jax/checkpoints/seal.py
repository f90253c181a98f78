"""The seal of a checkpoint: digests of its arrays and files, made when saved, compared when read.

It is a file in the checkpoint's folder: the caller's contents, a digest of every leaf among them,
and a digest of every file. Both are needed. The files' digests say whether the folder is byte for
byte what was written: a decoder loads most flipped bits silently, and never reads some others. The
leaves' digests are taken on devices: they show that the arrays which the next training step gets
are those that were saved, however either were laid out, and they let a part of a checkpoint be read
and checked without the rest.
"""

import hashlib
import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from swav_jax import sharding
from swav_jax.runtime.storage import AnyPath, files_below, in_bucket, write_whole
from swav_jax.runtime.xla import RUNS_ONCE
from swav_jax.workdir import SEAL


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or none that is intact could be found."""


@partial(jax.jit, compiler_options=RUNS_ONCE)
def leaf_digest(leaf: Array) -> UInt32[Array, ""]:
    """A checksum of an array's bits and their places, the same however it is laid over devices.

    The sum modulo 2^32 of mix(word ^ mix(position)). The mix is a bijection, so one wrong word is
    always found, and several are missed in one case of 2^32. The order of a sum does not matter:
    every device adds up the shard it holds.
    """
    leaf = sharding.on_devices(leaf)
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint8)
    word = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
    words = jax.lax.bitcast_convert_type(leaf, word).astype(jnp.uint32)
    position = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        index = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        position = position * np.uint32(size) + index
    return jnp.sum(_mix(words ^ _mix(position)), dtype=jnp.uint32)


def _mix(word: Array) -> Array:
    """MurmurHash3's 32-bit finaliser: a bijection that spreads every bit over the word."""
    word = (word ^ (word >> 16)) * np.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * np.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def write_seal(folder: AnyPath, contents: dict[str, Any]) -> None:
    """Seals a folder that is otherwise complete.

    Args:
      folder: of the checkpoint.
      contents: anything that JSON can hold, with the digest of every leaf at
        `contents["leaves"][name]["digest"]` and `file_digests` at `contents["files"]`.
    """
    body = json.dumps(contents, indent=1).encode()
    write_whole(folder / SEAL, _digest_line(body) + b"\n" + body)


def read_seal(folder: AnyPath) -> dict[str, Any]:
    """The seal's contents, in its second line and after; the first is their digest."""
    try:
        digest, _, body = (folder / SEAL).read_bytes().partition(b"\n")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise CheckpointError(f"{folder} has no readable seal: {error}") from error
    if digest != _digest_line(body):
        raise CheckpointError(f"{folder / SEAL} is not what was written")
    return json.loads(body)


def wrong_leaves(loaded: dict[str, Array], saved: dict[str, Any]) -> str:
    """Names the leaves whose digest is not the saved one; empty if there are none."""
    digests = jax.device_get({name: leaf_digest(leaf) for name, leaf in loaded.items()})
    wrong = [name for name, digest in digests.items() if int(digest) != saved[name]["digest"]]
    return f"{len(wrong)} leaves have other bits, {wrong[0]} first" if wrong else ""


def wrong_files(folder: AnyPath) -> str:
    """What is wrong with the files of a checkpoint; empty if they are what was sealed."""
    try:
        sealed = read_seal(folder)["files"]
        wrong = [
            name
            for name, digest in sealed.items()
            if not (folder / name).exists() or _file_digest(folder / name) != digest
        ]
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        if in_bucket(folder):  # the network's error, perhaps, and no damage
            raise
        return str(error)
    what = "are missing or changed"
    return f"{len(wrong)} of {len(sealed)} files {what}, {wrong[0]} first" if wrong else ""


def _digest_line(body: bytes) -> bytes:
    return hashlib.blake2b(body).hexdigest().encode()


def file_digests(folder: AnyPath) -> dict[str, str]:
    """The digest of every file below the folder but the seal, by relative path."""
    files = [file for file in files_below(folder) if file != folder / SEAL]
    return {str(file.relative_to(folder)): _file_digest(file) for file in files}


def _file_digest(file: AnyPath) -> str:
    """BLAKE2b of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()
