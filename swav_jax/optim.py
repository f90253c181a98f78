"""Optimisers and learning-rate schedules.

An optimiser here turns gradients into a direction; the train step then moves by -lr(step) times
that direction. With the learning rate outside, the momentum is what PyTorch's SGD keeps, and the
optimiser's state has no step count of its own that could disagree with the train state's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import DictKey
from jaxtyping import Array, Bool, Float, Int, PyTree

Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]

FAR = 4  # times the published learning rate, or a fourth of it


def larc(
    weight_decay: float, trust: float = 0.001, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Scales each tensor's gradient to its weights, as NVIDIA apex's LARC without clipping.

    g <- (g + wd p) trust |p| / (|g| + wd |p| + eps), for every tensor, biases and batch norm too;
    a tensor with |p| = 0 or |g| = 0 keeps its plain gradient, without decay (You et al., 2017;
    `optax.lars` differs in denominator, zero norms and the place of the learning rate).
    """

    def scaled(g: Array, p: Array) -> Array:
        p_norm, g_norm = jnp.linalg.norm(p.reshape(-1)), jnp.linalg.norm(g.reshape(-1))
        ratio = trust * p_norm / (g_norm + weight_decay * p_norm + eps)
        return jnp.where((p_norm > 0) & (g_norm > 0), (g + weight_decay * p) * ratio, g)

    return optax.stateless(lambda grads, params: jax.tree.map(scaled, grads, params))


def published_larc_lr(batch_size: int) -> float:
    """What SwAV's published LARC rates, 0.6 at batch 256 and 4.8 at 4096, give for a batch."""
    return 0.6 * (batch_size / 256) ** 0.75


def lr_warnings(optim: Any, batch_size: int, epochs: float) -> list[str]:
    """Warns of rates in `config.optim` that rarely do.

    They are LARC's, far from the published ones for a batch, cosines and warm-ups the wrong way
    round, as they come about when only the base rate is lowered, and warm-ups that nothing follows.

    Args:
      optim: the settings.
      batch_size: over all devices.
      epochs: of the training, or of the part of it that `train.steps` leaves.
    """
    base, usual, warnings = optim.base_lr, published_larc_lr(batch_size), []
    if optim.name == "larc" and not usual / FAR <= base <= usual * FAR:
        warnings.append(
            f"optim.base_lr {base:g} is far from the {usual:.2g} that the published 0.6 at batch "
            f"256 and 4.8 at 4096 suggest for batch {batch_size}; training may stall or diverge. "
            f"Start with --config.optim.base_lr={usual:.2g}."
        )
    cosine = optim.schedule != "drops"  # which has neither of the following
    if cosine and optim.final_lr > base:
        warnings.append(
            f"optim.final_lr {optim.final_lr:g} is above optim.base_lr {base:g}: the rate rises to "
            f"the end. Try a thousandth of the base, --config.optim.final_lr={base / 1000:.2g}."
        )
    if cosine and optim.warmup_epochs and optim.start_lr > base:
        warnings.append(
            f"optim.start_lr {optim.start_lr:g} is above optim.base_lr {base:g}: the warm-up "
            f"lowers the rate. Try a sixteenth of it, --config.optim.start_lr={base / 16:.2g}."
        )
    if cosine and optim.warmup_epochs >= epochs:
        warnings.append(
            f"optim.warmup_epochs {optim.warmup_epochs:g} is all of the training's {epochs:.3g} "
            "epochs: the rate never falls. A tenth of the training is usual, "
            f"--config.optim.warmup_epochs={epochs / 10:.2g}."
        )
    return warnings


def sgd(weight_decay: float) -> optax.GradientTransformation:
    """Plain gradients with L2 decay of every tensor, as PyTorch's SGD."""
    return optax.add_decayed_weights(weight_decay)


def lars(weight_decay: float, trust: float = 0.001) -> optax.GradientTransformation:
    """LARS as SimCLR uses it: vectors (biases, batch norm) get neither decay nor ratio.

    SimCLR's code applies the learning rate before the momentum, this one after: they differ only
    while the rate changes.
    """

    def matrices(params: PyTree) -> PyTree:
        return jax.tree.map(lambda p: p.ndim > 1, params)

    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=matrices),
        optax.masked(optax.scale_by_trust_ratio(trust_coefficient=trust), matrices),
    )


OPTIMIZERS = {"larc": larc, "sgd": sgd, "lars": lars}


def optimizer(
    name: str, *, weight_decay: float, momentum: float, without_momentum: Sequence[str] = ()
) -> optax.GradientTransformation:
    """One of OPTIMIZERS by name, followed by momentum.

    Args:
      name: of the optimiser.
      weight_decay: of all parameters, or of those that the optimiser decays.
      momentum: share of the last direction that the next one keeps.
      without_momentum: top-level names of the parameters that have none.
    """
    trace = optax.trace(momentum)
    if without_momentum:
        trace = optax.masked(
            trace, lambda params: {key: key not in without_momentum for key in params}
        )
    return optax.chain(OPTIMIZERS[name](weight_decay), trace)


def move(
    params: PyTree, direction: PyTree, lr: Float[Array, ""], factors: Mapping[str, float]
) -> PyTree:
    """The parameters after a step, p - lr d.

    Args:
      params: before the step; a dictionary.
      direction: from the optimiser.
      lr: the learning rate.
      factors: of the learning rate, below top-level names of the parameters; 1 for all others.
    """

    def below(name: str, old: PyTree) -> PyTree:
        own = lr * factors[name] if name in factors else lr
        return jax.tree.map(lambda p, d: p - own.astype(p.dtype) * d, old, direction[name])

    return {name: below(name, old) for name, old in params.items()}


def freeze(frozen: Mapping[str, Bool[Array, ""] | bool], new: PyTree, old: PyTree) -> PyTree:
    """Keeps `old` below the frozen top-level names of the parameters, `new` elsewhere.

    Frozen means untouched: neither update nor decay, and the momentum stays as it was.

    Args:
      frozen: for each top-level name of the parameters, whether it is fixed in this step.
      new: parameters after the step, or an optimiser state, which holds trees like them.
      old: the same before the step.
    """

    def keep(path: tuple, after: Array, before: Array) -> Array:
        name = next((key.key for key in path if isinstance(key, DictKey)), "")
        return jnp.where(frozen[name], before, after) if name in frozen else after

    return jax.tree_util.tree_map_with_path(keep, new, old)


def warmup_cosine(
    *, base: float, final: float, start: float, warmup_steps: int, total_steps: int, hold: int = 1
) -> Schedule:
    """Linear warm-up from start to base, end point included, then a cosine from base to final.

    The base value therefore occurs twice: at the warm-up's last step and at the cosine's first.

    Args:
      base: the largest learning rate.
      final: what the cosine ends at, one step after the last.
      start: the first learning rate of the warm-up.
      warmup_steps: length of the warm-up; 0 for none.
      total_steps: length of the training.
      hold: the cosine changes every `hold` steps; the steps of an epoch for MoCo and PCL v2.
    """

    def lr(step: Int[Array, ""]) -> Float[Array, ""]:
        rise = start + (base - start) * (_real(step) / max(warmup_steps - 1, 1))
        after = (step - warmup_steps) // hold * hold
        phase = _real(after) / max(total_steps - warmup_steps, 1)
        fall = final + 0.5 * (base - final) * (1 + jnp.cos(jnp.pi * phase))
        return jnp.where(step < warmup_steps, rise, fall)

    return lr


def drops(*, base: float, at_steps: Sequence[int], factor: float = 0.1) -> Schedule:
    """A constant learning rate, multiplied by `factor` at each of the given steps."""

    def lr(step: Int[Array, ""]) -> Float[Array, ""]:
        passed = jnp.sum(step >= jnp.asarray(at_steps, step.dtype))
        return base * jnp.power(factor, _real(passed))

    return lr


def schedule(optim: Any, *, steps_per_epoch: int, total_steps: int) -> Schedule:
    """The learning rate that `config.optim` describes, one of SCHEDULES."""
    return SCHEDULES[optim.schedule](optim, steps_per_epoch, total_steps)


def _cosine(optim: Any, steps_per_epoch: int, total_steps: int, hold: int = 1) -> Schedule:
    return warmup_cosine(
        base=optim.base_lr,
        final=optim.final_lr,
        start=optim.start_lr,
        warmup_steps=min(round(optim.warmup_epochs * steps_per_epoch), total_steps),
        total_steps=total_steps,
        hold=hold,
    )


def _cosine_by_epoch(optim: Any, steps_per_epoch: int, total_steps: int) -> Schedule:
    return _cosine(optim, steps_per_epoch, total_steps, hold=steps_per_epoch)


def _drops(optim: Any, steps_per_epoch: int, total_steps: int) -> Schedule:
    at_steps = [round(epoch * steps_per_epoch) for epoch in optim.drop_epochs]
    return drops(base=optim.base_lr, at_steps=at_steps, factor=optim.drop_factor)


# A constant learning rate is "drops" without any.
SCHEDULES = {"cosine": _cosine, "cosine_by_epoch": _cosine_by_epoch, "drops": _drops}


def _real(step: Int[Array, ""]) -> Float[Array, ""]:
    return step.astype(jnp.result_type(float))
