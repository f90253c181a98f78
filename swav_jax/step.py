"""One training step: the state it starts from, what it does, and its compiled form."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jaxtyping import PyTree

from swav_jax import gradients, keys, optim, sharding
from swav_jax.data.batch import Canvases, TrainBatch, Uncut, batch_shapes
from swav_jax.methods.contract import Clock, Crops, Method, Metrics, TrainState
from swav_jax.ops.metrics import FIRST_BAD, first_nonfinite, norms
from swav_jax.run import Run
from swav_jax.runtime.xla import RUNS_ONCE, step_options

Step = Callable[[TrainState, TrainBatch], tuple[TrainState, Metrics]]


# ---- the state ----------------------------------------------------------------------------------


def state_shapes(run: Run) -> TrainState:
    """Shape, dtype and sharding of every leaf of the state; nothing is computed."""
    shapes = jax.eval_shape(partial(_fresh_state, run))
    mesh = run.config.mesh
    places = sharding.state_shardings(
        run.mesh, shapes, mesh.spread_parameters_above, mesh.bank_memory
    )
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        places,
    )


def draw_state(run: Run, shapes: TrainState) -> TrainState:
    """The state before the first step, drawn on the devices that `state_shapes` names."""
    draw = partial(_fresh_state, run)
    return jax.jit(draw, out_shardings=shardings(shapes), compiler_options=RUNS_ONCE)()


def init_state(
    method: Method, optimizer: optax.GradientTransformation, crops: Crops, *, size: int, seed: int
) -> TrainState:
    """The state before the first step, from example crops of a few images.

    Args:
      method: of the run.
      optimizer: of the run.
      crops: float, of as many images as batch norm needs; their values do not matter.
      size: N, images of the training set.
      seed: of the run.
    """
    params, batch_stats, extra = method.init(jax.random.key(seed), crops, size)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        extra=extra,
    )


def _fresh_state(run: Run) -> TrainState:
    examples = batch_shapes(run.config.data.crops, run.config.model.bn_groups).crops
    dtype = run.method.encoder.head.param_dtype
    crops = tuple(jnp.zeros(example.shape, dtype) for example in examples)
    return init_state(run.method, run.optimizer, crops, size=run.sizes.size, seed=run.config.seed)


def shardings(shapes: TrainState) -> PyTree:
    """The sharding of each leaf of `state_shapes`."""
    return jax.tree.map(lambda leaf: leaf.sharding, shapes)


# ---- the step -----------------------------------------------------------------------------------


def compiled_step(run: Run, shapes: TrainState) -> Any:
    """`train_step` of a run under `jax.jit`; it reuses the memory of the state that it is given.

    Args:
      run: that the step is for.
      shapes: from `state_shapes`; the state keeps their layout.

    Returns:
      a jitted function from (state, batch) to (state, metrics), see `Step`.
    """
    step = partial(
        train_step,
        method=run.method,
        optimizer=run.optimizer,
        schedule=run.schedule,
        augment=run.augment,
        steps_per_epoch=run.sizes.steps_per_epoch,
        seed=run.config.seed,
        parts=run.config.train.accumulate,
    )
    return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=(shardings(shapes), None),
        compiler_options=step_options(run.mesh.devices.flat[0].platform),
    )


def batch_of(run: Run, whole: jax.Array | jax.ShapeDtypeStruct | None = None) -> TrainBatch:
    """Shapes of a batch, laid over the mesh; images on the devices stand for themselves.

    Args:
      run: that the batch is for.
      whole: the training images on the devices, or their shape; None for those of `run.cached`.
    """
    crops, rows = run.config.data.crops, run.sizes.batch_size
    batch: TrainBatch = batch_shapes(crops, rows)
    boxes = jax.ShapeDtypeStruct((rows, sum(count for count, *_ in crops), 4), jnp.int32)
    if whole is None and run.cached:
        whole = run.cached.images
    if whole is not None:
        batch = Uncut(whole, boxes, batch.index, batch.sample)
    elif run.canvas:
        images = jax.ShapeDtypeStruct((rows, run.canvas, run.canvas, 3), jnp.uint8)
        batch = Canvases(images, boxes, batch.index, batch.sample)
    samples = NamedSharding(run.mesh, sharding.SAMPLES)

    def placed(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.Array | jax.ShapeDtypeStruct:
        if isinstance(leaf, jax.Array):
            return leaf
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=samples)

    return jax.tree.map(placed, batch)


def train_step(
    state: TrainState,
    batch: TrainBatch,
    *,
    method: Method,
    optimizer: optax.GradientTransformation,
    schedule: optim.Schedule,
    augment: Callable[..., Crops],
    steps_per_epoch: int,
    seed: int,
    parts: int = 1,
) -> tuple[TrainState, Metrics]:
    """One step of any method.

    Args:
      state: before the step.
      batch: crops and numbers of B images.
      method: the hyper-parameters and functions of the method.
      optimizer: from gradients to a direction, see `optim.optimizer`.
      schedule: from the step to the learning rate.
      augment: from (batch, epoch) to float crops.
      steps_per_epoch: length of an epoch.
      seed: of the step's own randomness.
      parts: number of parts that the batch is processed in, to save memory.
    """
    clock = Clock(
        step=state.step,
        epoch=state.step // steps_per_epoch,
        key=keys.at(seed, "step", state.step),
    )
    crops = augment(batch, epoch=clock.epoch)
    params, extra = method.before_step(state.params, state.extra)
    state = dataclasses.replace(state, params=params, extra=extra)

    take_gradients = (
        partial(gradients.in_parts, parts=parts) if parts > 1 else gradients.whole_batch
    )
    grads, loss, batch_stats, extra, metrics = take_gradients(
        method, state, crops, batch.index, clock
    )

    direction, opt_state = optimizer.update(grads, state.opt_state, params)
    lr = schedule(state.step)
    moved = optim.move(params, direction, lr, method.lr_factors())
    frozen = method.frozen(clock)
    moved = optim.freeze(frozen, moved, params)
    metrics |= {"loss": loss, "lr": lr} | norms(params, grads, moved)
    metrics |= {FIRST_BAD: first_nonfinite((params, batch_stats, grads, moved))}
    return TrainState(
        step=state.step + 1,
        params=moved,
        batch_stats=batch_stats,
        opt_state=optim.freeze(frozen, opt_state, state.opt_state),
        extra=extra,
    ), metrics
