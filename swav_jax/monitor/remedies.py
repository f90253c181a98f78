"""What helps a run that goes wrong: flags that its configuration can take, and advice in words."""

from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from swav_jax.methods.contract import Sizes
from swav_jax.optim import published_larc_lr

USUAL_SGD_LR = 0.05  # of DeepCluster and MoCo at batch 256, and of small data

# Each is keys of SUGGESTIONS, or words.
CALMER = ("optim.base_lr", "model.dtype")
COPIES = ("look for copies, blank images, or a decoder that fails in the same way for all",)
QUEUE = ("method.queue_start_epoch", "method.queue_length")
SHARPER = ("method.epsilon", "method.freeze_prototypes_steps", "data.crops")
SOFTER = ("a method.epsilon that is two to five times larger", "method.sinkhorn_iterations")
DIFFER = "check that the images differ and are what you expect"
SPREAD = ("model.head_norm", "optim.base_lr", *SHARPER, DIFFER)
FEWER = ("model.prototypes", "method.sinkhorn_iterations", "method.freeze_prototypes_steps")
LEARN = (*SHARPER, "model.prototypes", "optim.base_lr", DIFFER)
COARSER = ("model.prototypes", "optim.base_lr", DIFFER)
LESSONS = ("longer epochs: a smaller data.batch_size", "model.prototypes", "optim.base_lr", DIFFER)
PAIRS = ("optim.base_lr", "data.crops", DIFFER)
FEED = (
    "data.threads",
    "use a machine with more CPU cores",
    "if reading is slow: store smaller images, on a faster disk",
    "data.cache",
    "data.crop_on",
    "if cropping is slow: cut fewer or smaller crops (data.crops)",
)


def _calmer_lr(lr: float, config: ConfigDict, sizes: Sizes) -> float:
    """A usual rate of the optimiser, or a quarter of a rate that is near it already."""
    usual = {"larc": published_larc_lr(sizes.batch_size), "sgd": USUAL_SGD_LR}
    return min(usual.get(config.optim.name, lr / 4), lr / 4)


def _fewer_prototypes(prototypes: int, config: ConfigDict, sizes: Sizes) -> int:
    shards = config.mesh.model
    return max(min(prototypes // 2, sizes.size // 20) // shards, 1) * shards


def _longer_freeze(steps: int, config: ConfigDict, sizes: Sizes) -> int:
    return min(max(2 * steps, sizes.steps_per_epoch), sizes.total_steps // 2)


# From a setting to one that is known to help; those that a run's config lacks are left out.
SUGGESTIONS: dict[str, Callable[[Any, ConfigDict, Sizes], Any]] = {
    "optim.base_lr": _calmer_lr,
    "method.epsilon": lambda epsilon, *_: min(0.05, epsilon / 2.5),
    "method.freeze_prototypes_steps": _longer_freeze,
    "method.sinkhorn_iterations": lambda iterations, *_: 3 * iterations,
    "method.queue_start_epoch": lambda epoch, *_: 2 * max(epoch, 1),
    "method.queue_length": lambda n, _, sizes: n // 2 // sizes.batch_size * sizes.batch_size,
    "model.prototypes": _fewer_prototypes,
    "model.head_norm": lambda *_: True,
    "model.dtype": lambda dtype, *_: dtype if dtype == "float64" else "float32",
    "data.crops": lambda crops, *_: tuple((n, s, min(2 * a, b), b) for n, s, a, b in crops),
    "data.threads": lambda *_: 0,  # as many as there are cores
    "data.cache": lambda *_: "host",  # refused, with both sizes, if the images do not fit
    "data.crop_on": lambda now, *_: now if jax.default_backend() == "cpu" else "device",
}


def advice(remedy: str, config: ConfigDict, sizes: Sizes) -> str | None:
    """Advice in words as it is, a key as the flag that sets it; None where there is nothing to set.

    For example `--config.method.epsilon=0.02` (now 0.05).
    """
    if remedy not in SUGGESTIONS:
        return remedy
    section, name = remedy.split(".")
    if name not in config[section]:
        return None
    old = config[section][name]
    new = SUGGESTIONS[remedy](old, config, sizes)
    if isinstance(new, float):
        new = float(f"{new:.2g}")
    shown = f'"{new}"' if isinstance(new, tuple) else new
    return None if new == old else f"`--config.{remedy}={shown}` (now {old})"
