"""The contract between the train loop and a method.

Methods of this family differ in four things: what the crops predict, what state they carry, what
happens at an epoch boundary, and in which order images are drawn. A method is one frozen dataclass
of hyper-parameters that defines these four; the loop knows nothing else of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import flax.struct
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from swav_jax.models.encoder import BatchStats, Crops, Encoder, Params, embed

Extra = dict[str, Any]  # what a method remembers: queue, bank, assignments, key encoder
Metrics = dict[str, Float[Array, ""]]


@flax.struct.dataclass
class TrainState:
    """All that training remembers, in one pytree and so in one checkpoint."""

    step: Int[Array, ""]
    params: Params
    batch_stats: BatchStats
    opt_state: optax.OptState
    extra: Extra


class Clock(NamedTuple):
    """How far training has come; traced inside the step."""

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
    epochs_steps: int = 0  # of train.epochs; train.steps may cut them short, for a trial
    parts: int = 1  # that a batch is processed in, each with its own batch-norm statistics

    @property
    def images_per_epoch(self) -> int:
        """The images that an epoch draws: whole batches."""
        return self.steps_per_epoch * self.batch_size


@flax.struct.dataclass
class Visited:
    """A batch of a pass over the training set."""

    crops: Crops
    index: Int[Array, "B"]  # of rows that only fill up the last batch, beyond the data set


class Prototypes(NamedTuple):
    """What assigns any image to one of K clusters: that of the largest score W x + b.

    The method's probabilities are softmax(scores / tau).
    """

    layer: str  # of the encoder, see `evals.features.LAYERS`, that gives x
    directions: Float[Array, "K F"]  # W
    temperature: Float[Array, "K"] | float  # tau
    bias: Float[Array, "K"] | float = 0.0  # b


# visit(fold, carry, view): carry = fold(carry, batch) over the whole training set, jitted; `view`
# is "crops" (augmented as in training) or "center" (one centre crop an image). The
# buffers of `carry` are used up; a run that is interrupted in a pass saves the state before it, so
# that after the first step `carry` holds copies of what is in the state.
Fold = Callable[[PyTree, Visited], PyTree]
Visit = Callable[[Fold, PyTree, str], PyTree]


@dataclass(frozen=True)
class Method:
    """What a method may define. Only `loss` has no default.

    A method is a frozen dataclass. The fields `encoder`, `prototypes` (K) and `heads` (sets of K
    prototypes) come from `config.model`, and `labels`, int32 [N] or None, from the training images;
    all but the first only where a method has them. Every other field is a hyper-parameter with a
    default, which `config.method` sets. Everything a method remembers between steps is in `extra`.
    The functions are pure and run inside `jax.jit`, except where noted.
    """

    encoder: Encoder

    # Epochs between calls of `cluster`; 0 for never.
    cluster_every_epochs: ClassVar[int] = 0
    # Top-level parameters that the optimiser moves without momentum.
    without_momentum: ClassVar[tuple[str, ...]] = ()
    # Branches of a checkpoint with all that assigns images to clusters; none without clusters.
    prototypes_in: ClassVar[tuple[str, ...]] = ()
    # Evaluations while it trains, by their names in `evaluators.EVALUATORS`.
    evaluators: ClassVar[tuple[str, ...]] = ("knn", "quality")

    def init(
        self, key: Key[Array, ""], crops: Crops, size: int
    ) -> tuple[Params, BatchStats, Extra]:
        """The initial state, for `size` images: a fresh encoder, and nothing remembered."""
        variables = self.encoder.init(key, crops, train=True)
        return variables["params"], variables["batch_stats"], {}

    def frozen(self, clock: Clock) -> dict[str, Bool[Array, ""] | bool]:
        """Which top-level parameters get no update at all in this step."""
        return {}

    def lr_factors(self) -> dict[str, float]:
        """Factors of the learning rate by top-level names of the parameters; 1 for all others."""
        return {}

    def before_step(self, params: Params, extra: Extra) -> tuple[Params, Extra]:
        """Changes the state before gradients are taken: normalisation, moving averages."""
        return params, extra

    def forward(
        self, params: Params, batch_stats: BatchStats, extra: Extra, crops: Crops
    ) -> tuple[PyTree, BatchStats]:
        """The networks' outputs for each image, with leading axis B, and new batch statistics.

        Outputs of one image must not depend on other images except through batch norm: with
        gradient accumulation the loop calls this for parts of a batch. By default the outputs are
        the unit-length embeddings of all crops, [B, V, D].
        """
        return embed(self.encoder, params, batch_stats, crops)

    def loss(
        self, params: Params, extra: Extra, outputs: PyTree, index: Int[Array, "B"], clock: Clock
    ) -> tuple[Float[Array, ""], tuple[Extra, Metrics]]:
        """The objective over the whole batch: loss, (new extra, metrics)."""
        raise NotImplementedError

    def cluster(
        self, state: TrainState, visit: Visit, epoch: int, key: Key[Array, ""]
    ) -> tuple[TrainState, Metrics]:
        """Remakes the clusters at the start of an epoch. Runs on the host."""
        return state, {}

    def assignments(self, extra: Extra) -> Int[Array, "H N"] | None:
        """The cluster of each image in each of H clusterings, -1 for none; None without clusters.

        Columns beyond the data set are ignored. The loop compares each clustering with the one
        before, and with the data set's labels if it has any; such methods never see labels.
        """
        return extra.get("assignments")

    def prototype_sets(self, saved: dict[str, Any]) -> list[Prototypes]:
        """What assigns images to clusters, one for each head or level.

        Args:
          saved: the branches `prototypes_in`, rooted at the state: {"params": {...}}.

        Raises:
          ValueError: there are no clusters yet.
        """
        return []

    def clustered_encoder(self, saved: dict[str, Any]) -> dict[str, PyTree] | None:
        """The encoder's variables with which images are assigned; None for the trained ones.

        Args:
          saved: as of `prototype_sets`.
        """
        return None

    def epoch_order(self, extra: Extra, epoch: int, seed: int, size: int) -> np.ndarray | None:
        """The order in which an epoch draws from `size` images, or None for a plain permutation.

        Runs on the host. It must depend only on its arguments, which a restart restores.
        A method with an order clusters before every epoch: the batches of an order end with it.
        """
        return None

    def check(self, sizes: Sizes) -> list[str]:
        """Refuses (ValueError) what cannot work and returns warnings about what rarely does.

        Runs on the host, before anything is computed.
        """
        return []
