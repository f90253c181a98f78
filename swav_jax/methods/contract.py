"""The contract between the train loop and a method.

Systems that learn features by clustering differ in four things: what the crops have to predict,
what state they carry along, what happens at an epoch boundary, and in which order images are drawn.
A method is one frozen dataclass of hyper-parameters that says these four; the loop knows no more.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import flax.struct
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from swav_jax.models.encoder import Encoder

Crops = Sequence[Float[Array, "B n S S 3"]]
Metrics = dict[str, Float[Array, ""]]

IMAGES_PER_CLUSTER = 10  # on average; of fewer, centroids are noise


@flax.struct.dataclass
class TrainState:
    """All that training remembers, in one pytree and so in one checkpoint."""

    step: Int[Array, ""]
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: optax.OptState
    extra: dict[str, Any]  # the method's own: queue, bank, assignments, momentum encoder


class Clock(NamedTuple):
    """Where training stands; traced inside the step."""

    step: Int[Array, ""]
    epoch: Int[Array, ""]
    key: Key[Array, ""]  # this step's own randomness


class Sizes(NamedTuple):
    """The sizes of a training run, for checks before it starts."""

    size: int  # images in the training set
    batch_size: int  # over all devices
    views: int  # crops of an image
    steps_per_epoch: int
    total_steps: int
    data_devices: int = 1  # that share a batch's images
    epochs_steps: int = 0  # what train.epochs take; train.steps may cut that short, for a trial


def check_assignment_crops(crops: Sequence[int], sizes: Sizes) -> None:
    """Refuses (ValueError) assignment crops that are not among an image's crops."""
    if not crops or not all(0 <= crop < sizes.views for crop in crops):
        raise ValueError(
            f"method.assignment_crops {tuple(crops)} must name crops from 0 to {sizes.views - 1}: "
            f"data.crops cuts {sizes.views} of each image."
        )


def check_clusters(clusters: int, sizes: Sizes) -> list[str]:
    """Refuses (ValueError) more clusters than an epoch draws images, and warns of small ones."""
    images = sizes.steps_per_epoch * sizes.batch_size
    if clusters > images:
        raise ValueError(
            f"model.prototypes {clusters} exceeds the {images} images that an epoch draws: that "
            f"many clusters cannot be made of them. Something like {max(images // 20, 2)} is a "
            "start."
        )
    if images < IMAGES_PER_CLUSTER * clusters:
        return [
            f"model.prototypes {clusters} make clusters of {images / clusters:.1f} images; with "
            f"fewer than {IMAGES_PER_CLUSTER} they say little. Something like "
            f"{max(images // 20, 2)} is a start."
        ]
    return []


# visit(fold, carry, view): carry = fold(carry, batch) over the whole training set, jitted; `view`
# is "crops" (augmented as in training) or "center" (one centre crop an image). A batch holds float
# `crops` and `index`; rows that only fill up the last batch have an index beyond the data set.
Visit = Callable[[Callable[[PyTree, dict[str, Any]], PyTree], PyTree, str], PyTree]


class Method:
    """What a method may say. Only `init`, `forward` and `loss` have no default.

    A method is a frozen dataclass whose first fields are `encoder`, `prototypes` (K) and `heads`
    (sets of K prototypes); the others are the hyper-parameters that `config.method` sets.
    Everything it remembers between steps is in `extra`. The functions are pure and run inside
    `jax.jit`, except where noted.
    """

    encoder: Encoder
    prototypes: int
    heads: int

    # Epochs between calls of `cluster`; 0 for never.
    cluster_every_epochs: ClassVar[int] = 0
    # Top-level parameters that the optimiser moves without momentum.
    without_momentum: ClassVar[tuple[str, ...]] = ()

    def check(self, sizes: Sizes) -> list[str]:
        """Refuses (ValueError) what cannot work and returns warnings about what rarely does.

        Runs on the host, before anything is computed.
        """
        return []

    def init(
        self, key: Key[Array, ""], crops: Crops, size: int
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Fresh (params, batch_stats, extra) for a training set of `size` images."""
        raise NotImplementedError

    def frozen(self, clock: Clock) -> dict[str, Bool[Array, ""] | bool]:
        """Which top-level parameters get no update at all in this step."""
        return {}

    def before_step(
        self, params: dict[str, Any], extra: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What happens to the state before gradients are taken: normalisation, moving averages."""
        return params, extra

    def forward(
        self,
        params: dict[str, Any],
        batch_stats: dict[str, Any],
        extra: dict[str, Any],
        crops: Crops,
    ) -> tuple[PyTree, dict[str, Any]]:
        """The networks' work on each image: (outputs with leading axis B, new batch statistics).

        Outputs of one image must not depend on other images but by batch norm: with gradient
        accumulation the loop calls this for parts of a batch.
        """
        raise NotImplementedError

    def loss(
        self,
        params: dict[str, Any],
        extra: dict[str, Any],
        outputs: PyTree,
        index: Int[Array, "B"],
        clock: Clock,
    ) -> tuple[Float[Array, ""], tuple[dict[str, Any], Metrics]]:
        """The objective over the whole batch: loss, (new extra, metrics)."""
        raise NotImplementedError

    def cluster(
        self, state: TrainState, visit: Visit, epoch: int, key: Key[Array, ""]
    ) -> tuple[TrainState, Metrics]:
        """Re-makes the clusters at the start of an epoch. Runs on the host."""
        return state, {}

    def assignments(self, extra: dict[str, Any]) -> Int[Array, "H N"] | None:
        """The cluster of each image in each of H clusterings, -1 for none; None without clusters.

        Columns beyond the data set are ignored. The loop compares them from one clustering to the
        next, and with the labels where the data set has any, which methods never see.
        """
        return None

    def epoch_order(
        self, extra: dict[str, Any], epoch: int, seed: int, size: int
    ) -> np.ndarray | None:
        """The order in which an epoch draws from `size` images, or None for a plain permutation.

        Runs on the host. It must depend on nothing but its arguments, which a restart restores.
        A method with an order clusters before every epoch: the batches of an order end with it.
        """
        return None
