"""SwAV: predict a crop's cluster code from another crop of the same image.

Caron et al., 2020, "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments":
embeddings z of unit length, prototypes C of unit length, scores s = C z, codes q of the assignment
crops by Sinkhorn-Knopp over the batch (and a queue of earlier embeddings), and the loss
-sum_k q_k log softmax_k(s / tau) between each code and every other crop of the image.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from swav_jax import sharding
from swav_jax.methods import checks
from swav_jax.methods.contract import (
    BatchStats,
    Clock,
    Crops,
    Extra,
    Method,
    Metrics,
    Params,
    Prototypes,
    Sizes,
)
from swav_jax.methods.prototypes import init_with_prototypes, on_unit_sphere, sets_of
from swav_jax.ops import queue
from swav_jax.ops.metrics import alignment, code_statistics, embedding_std
from swav_jax.ops.prediction import swapped_prediction
from swav_jax.ops.similarity import similarity
from swav_jax.ops.sinkhorn import harden, sinkhorn


@dataclass(frozen=True, kw_only=True)
class SwAV(Method):
    """Settings of SwAV; the defaults are the published ones for ImageNet at batch 4096."""

    prototypes: int  # K
    heads: int  # sets of K prototypes
    temperature: float = 0.1  # tau
    epsilon: float = 0.05
    sinkhorn_iterations: int = 3
    hard_codes: bool = False
    assignment_crops: tuple[int, ...] = (0, 1)
    freeze_prototypes_steps: int = 313
    queue_length: int = 0  # embeddings remembered of each assignment crop; 0 for no queue
    queue_start_epoch: int = 15

    prototypes_in: ClassVar[tuple[str, ...]] = ("params/prototypes",)

    def init(
        self, key: Key[Array, ""], crops: Crops, size: int
    ) -> tuple[Params, BatchStats, Extra]:
        """Encoder and prototypes as PyTorch draws them; an empty queue if there is one."""
        params, batch_stats = init_with_prototypes(
            self.encoder, key, crops, self.prototypes, self.heads
        )
        head = self.encoder.head
        extra = {}
        if self.queue_length:
            shape = (len(self.assignment_crops), self.queue_length, head.dim)
            extra = {
                "queue": jnp.zeros(shape, head.param_dtype),
                "queue_filled": jnp.zeros((), jnp.int32),
            }
        return params, batch_stats, extra

    def frozen(self, clock: Clock) -> dict[str, Bool[Array, ""] | bool]:
        """Freezes the prototypes while the embedding takes shape."""
        return {"prototypes": clock.step < self.freeze_prototypes_steps}

    def before_step(self, params: Params, extra: Extra) -> tuple[Params, Extra]:
        """Puts the prototypes back on the unit sphere, from where the step is taken."""
        return on_unit_sphere(params), extra

    def loss(
        self,
        params: Params,
        extra: Extra,
        outputs: Float[Array, "B V D"],
        index: Int[Array, "B"],
        clock: Clock,
    ) -> tuple[Float[Array, ""], tuple[Extra, Metrics]]:
        """Swapped prediction, averaged over the prototype heads."""
        embedding = outputs
        heads = [
            self._head_loss(prototypes, embedding, extra)
            for prototypes in params["prototypes"].values()
        ]
        loss, metrics = jax.tree.map(lambda *x: jnp.mean(jnp.stack(x)), *heads)
        assigned = lax.stop_gradient(embedding)[:, self.assignment_crops, :]
        metrics["embedding_std"] = embedding_std(assigned[:, 0])
        metrics["alignment"] = alignment(embedding[:, 0], embedding[:, 1:])
        if self.queue_length:
            metrics["queue_used"] = self._queue_full(extra).astype(loss.dtype)
            extra = self._remember(extra, assigned, clock)
        return loss, (extra, metrics)

    def _head_loss(
        self,
        prototypes: Float[Array, "K D"],
        embedding: Float[Array, "B V D"],
        extra: Extra,
    ) -> tuple[Float[Array, ""], Metrics]:
        scores = similarity(embedding, prototypes)
        fixed = lax.stop_gradient(scores)
        targets = [
            self._codes(fixed[:, crop], lax.stop_gradient(prototypes), extra, i)
            for i, crop in enumerate(self.assignment_crops)
        ]
        codes, residual = jax.tree.map(lambda *x: jnp.stack(x), *targets)
        loss = swapped_prediction(scores, codes, self.assignment_crops, self.temperature)
        metrics = code_statistics(codes) | {"marginal_residual": jnp.mean(residual)}
        return loss, metrics

    def _codes(
        self,
        scores: Float[Array, "B K"],
        prototypes: Float[Array, "K D"],
        extra: Extra,
        crop: int,
    ) -> tuple[Float[Array, "B K"], Float[Array, ""]]:
        """Codes of the batch, balanced together with the queue once that is full."""
        if self.queue_length:
            remembered = similarity(extra["queue"][crop], prototypes)
            full = self._queue_full(extra)
        else:
            remembered, full = scores[:0], jnp.zeros((), bool)

        def balance(
            scores: Float[Array, "b k"],
            remembered: Float[Array, "l k"],
            full: Bool[Array, ""],
            **axes: tuple[str, ...],
        ) -> tuple[Float[Array, "b k"], Float[Array, ""]]:
            own = len(scores)
            both = jnp.concatenate([scores, remembered])
            valid = (jnp.arange(len(both)) < own) | full
            codes, residual = sinkhorn(
                both,
                epsilon=self.epsilon,
                iterations=self.sinkhorn_iterations,
                valid=valid,
                **axes,
            )
            return codes[:own], residual

        codes, residual = sharding.on_blocks(
            balance,
            (scores, remembered, full),
            in_specs=(sharding.SCORES, sharding.SCORES, sharding.WHOLE),
            out_specs=(sharding.SCORES, sharding.WHOLE),
        )
        return (harden(codes) if self.hard_codes else codes), residual

    def _queue_full(self, extra: Extra) -> Bool[Array, ""]:
        return extra["queue_filled"] >= self.queue_length

    def _remember(self, extra: Extra, assigned: Float[Array, "B A D"], clock: Clock) -> Extra:
        """The batch enters the queue from its start epoch on, after the codes were made."""
        started = clock.epoch >= self.queue_start_epoch
        grown = jnp.minimum(extra["queue_filled"] + len(assigned), self.queue_length)
        with jax.named_scope("queue"):  # the embeddings go to the devices where the queue begins
            newest = jnp.swapaxes(assigned, 0, 1)
        return extra | {
            "queue": jnp.where(started, queue.push(extra["queue"], newest), extra["queue"]),
            "queue_filled": jnp.where(started, grown, extra["queue_filled"]),
        }

    def _queue_in_use_from(self, sizes: Sizes) -> int:
        """The first step whose codes are balanced with the queue, if there is one."""
        filling = self.queue_length // sizes.batch_size
        return self.queue_start_epoch * sizes.steps_per_epoch + filling

    def prototype_sets(self, saved: dict[str, Any]) -> list[Prototypes]:
        """The prototypes of each head."""
        return sets_of(saved, self.temperature)

    def check(self, sizes: Sizes) -> list[str]:
        """Refuses impossible settings; warns of those that are known to get stuck at ln K."""
        checks.crops_to_compare(sizes)
        checks.assignment_crops(self.assignment_crops, sizes)
        checks.queue_length(self.queue_length, sizes)
        warnings = checks.first_phase(
            f"method.freeze_prototypes_steps {self.freeze_prototypes_steps}",
            self.freeze_prototypes_steps,
            sizes,
            "the prototypes would never move",
        )
        in_use = self._queue_in_use_from(sizes) < sizes.total_steps
        if self.queue_length and not in_use:
            warnings.append(
                f"The queue would never be used: method.queue_start_epoch {self.queue_start_epoch} "
                f"and the {self.queue_length // sizes.batch_size} steps in which it fills leave "
                f"none of the training's {sizes.total_steps}. Lower method.queue_start_epoch or "
                "method.queue_length; method.queue_length=0 leaves it out."
            )
        balanced = sizes.batch_size + in_use * self.queue_length
        if balanced * 4 < self.prototypes:
            warnings.append(
                f"Each code is computed from {balanced} samples for {self.prototypes} prototypes: "
                "most get none, and the loss tends to stay at ln K. Set method.queue_length to a "
                f"few thousand, or model.prototypes to at most {4 * balanced}."
            )
        if self.prototypes > sizes.size:
            warnings.append(
                f"model.prototypes {self.prototypes} exceeds the {sizes.size} images: some "
                "prototypes can never be used. Something like "
                f"{max(sizes.size // 20, 2)} is a start."
            )
        if self.epsilon < 0.0114:
            warnings.append(
                f"method.epsilon {self.epsilon} overflows exp(1/epsilon) in float32 in other "
                "implementations; here it is safe, but codes are close to one-hot. Raise it if "
                "code_entropy falls to 0."
            )
        return warnings
