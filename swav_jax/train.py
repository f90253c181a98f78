"""Pretraining, top to bottom: set up, resume, epoch boundary, step. Read this file first."""

import dataclasses
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from absl import logging
from ml_collections import ConfigDict

from swav_jax import config as config_lib
from swav_jax import gradients, optim, sharding
from swav_jax.checkpoints.store import Checkpoints
from swav_jax.clustering import visit_all
from swav_jax.data.batches import Batches, train_batches
from swav_jax.evals.agreement import compare
from swav_jax.evals.labelled import knn
from swav_jax.methods.contract import Clock, Method, Metrics, TrainState
from swav_jax.monitor.curves import draw_curves
from swav_jax.monitor.doctor import FIRST_BAD
from swav_jax.monitor.watch import Watch
from swav_jax.ops.metrics import first_nonfinite
from swav_jax.run import Run, build
from swav_jax.runtime.interruption import INTERRUPTED, Interruption
from swav_jax.runtime.processes import check_same, from_process_0, warn
from swav_jax.runtime.xla import RUNS_ONCE
from swav_jax.weights.backbone import check_origin, start_from
from swav_jax.workdir import CHECKPOINTS, claimed, read_results, update_results


def pretrain(config: ConfigDict, workdir: Path) -> None:
    """Trains from scratch, or goes on from the newest checkpoint in the workdir.

    Raises:
      ConfigError: settings that cannot work, or a workdir that belongs to another run.
      LaunchError: processes that differ in settings or images.
    """
    run, first_host = build(config), jax.process_index() == 0
    config = run.config
    check_same(f"{run.sizes.size} images, {run.source.describe(0)} first, and {config.to_json()}")
    with (
        jax.set_mesh(run.mesh),
        claimed(config, workdir) if first_host else nullcontext(),
        Checkpoints(
            workdir / CHECKPOINTS,
            keep_last=config.checkpoint.keep_last,
            keep_every=config.checkpoint.keep_every_steps,
        ) as checkpoints,
        Interruption() as interruption,
    ):
        if config.init_from and checkpoints.latest_step is None:
            check_origin(config, config.init_from)
        state, take_step = start(run)
        if not from_process_0("random_init_top1" in read_results(workdir).get("knn", {})):
            _knn(run, state, workdir, prefix="random_init_")
        state = resume(run, state, checkpoints)
        with Watch(run, workdir, first_step=int(state.step)) as watch:
            state = run_steps(run, state, take_step, checkpoints, interruption, watch)
    if first_host:
        draw_curves(workdir)
    if int(state.step) < run.sizes.total_steps:
        logging.info("interrupted after step %d: the same command goes on", int(state.step))
        sys.exit(INTERRUPTED)


def run_steps(
    run: Run,
    state: TrainState,
    take_step: Callable[..., Any],
    checkpoints: Checkpoints,
    interruption: Interruption,
    watch: Watch,
) -> TrainState:
    """The steps from where the state stands to the end, or to an interruption."""
    sizes, config, every = run.sizes, run.config, run.method.cluster_every_epochs
    first, saved, batches = int(state.step), time.monotonic(), None
    for step in range(first, sizes.total_steps):
        epoch, step_in_epoch = divmod(step, sizes.steps_per_epoch)
        if step and _every(config.eval.knn_every_epochs * sizes.steps_per_epoch, step):
            evaluate(run, state, watch, step)
        if every and step_in_epoch == 0 and epoch % every == 0:
            with watch.pause(state):
                state, clusters = cluster(run, state, step)
            watch.note(step, clusters)
            batches = None if clusters else batches
        batches = batches or batches_from(run, state, step)

        batch = next(batches)
        watch.before(step, batches, batch)
        state, metrics = take_step(state, sharding.put_batch(run.mesh, batch))
        watch.after(step, state, metrics)

        done = step + 1
        last, interrupted = done == sizes.total_steps, interruption.due(step)
        if last or interrupted or _due(config, done, sizes.steps_per_epoch, saved):
            watch.read(state)
            metadata = {"config": config_lib.to_dict(config), "images": sizes.size}
            checkpoints.save(done, state, metadata)
            saved = time.monotonic()
        if interrupted and not last:
            return state
    evaluate(run, state, watch, sizes.total_steps)
    return state


def resume(run: Run, state: TrainState, checkpoints: Checkpoints) -> TrainState:
    """The newest checkpoint's state; else the fresh one, with a backbone to start from if any.

    Raises:
      ConfigError: the checkpoint was trained on another number of images.
    """
    restored = checkpoints.restore(state)
    if not restored:
        start_at = run.config.init_from
        return start_from(state, start_at) if start_at else state
    state, metadata = restored
    if metadata["images"] != run.sizes.size:
        raise config_lib.ConfigError(
            f"the run began with {metadata['images']} training images, and there are "
            f"{run.sizes.size} now: epochs and the order of images would change. Restore the "
            "images, or start another --workdir with --config.init_from of this one."
        )
    logging.info("going on from step %d of %d", int(state.step), run.sizes.total_steps)
    return state


def evaluate(run: Run, state: TrainState, watch: Watch, done: int) -> None:
    """K-NN after `done` steps. A run that goes on from there does it again, to the same result."""
    with watch.pause(state):
        scores = _knn(run, state, watch.workdir)
    watch.note(done, {"knn_top1": scores["top1"]} if scores else {})


def start(run: Run) -> tuple[TrainState, Callable[..., Any]]:
    """The state before the first step, laid over the mesh, and the compiled step.

    The step takes (state, batch) and returns (state, metrics); it reuses the state's memory.
    """
    places = jax.tree.map(lambda leaf: leaf.sharding, state_shapes(run))
    mesh = run.config.mesh
    for warning in sharding.unused_settings(places, mesh.model, mesh.bank_memory):
        warn(warning)
    draw = partial(_fresh_state, run)
    state = jax.jit(draw, out_shardings=places, compiler_options=RUNS_ONCE)()
    return state, step_function(run, places)


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


def step_function(run: Run, places: Any) -> Any:
    """`train_step` of a run under `jax.jit`, for a state with the given shardings."""
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
    return jax.jit(step, donate_argnums=0, out_shardings=(places, None))


def cluster(run: Run, state: TrainState, step: int) -> tuple[TrainState, dict[str, float]]:
    """The method's clusters re-made at an epoch boundary, and how they differ from the old ones.

    A method that has nothing to cluster yet gives no numbers.
    """
    method, epoch = run.method, step // run.sizes.steps_per_epoch
    start_time = time.perf_counter()
    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    before = sharding.fetch(method.assignments(state.extra))
    key = jax.random.fold_in(jax.random.key(run.config.seed), step)
    state, metrics = method.cluster(state, partial(visit_all, run, epoch), epoch, key)
    state, scores = jax.device_put(state, places), jax.device_get(metrics)
    if not scores:
        return state, {}
    scores["cluster_seconds"] = time.perf_counter() - start_time
    after = sharding.fetch(method.assignments(state.extra))
    if after is not None:
        scores |= compare(before, after, run.source.labels)
    return state, scores


def _knn(run: Run, state: TrainState, workdir: Path, prefix: str = "") -> dict[str, float]:
    """Evaluates the backbone, if there are labels, and notes it in `results.json`."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    scores = knn(run.config, variables, run.source)
    if scores is None:
        return {}
    noted = {f"{prefix}top1": scores["top1"]} if prefix else scores
    if jax.process_index() == 0:
        update_results(workdir, "knn", noted)
    return scores


def _due(config: ConfigDict, done: int, steps_per_epoch: int, saved: float) -> bool:
    """Whether a checkpoint is due after `done` steps; the same answer on every host."""
    settings = config.checkpoint
    if _every(settings.every_epochs * steps_per_epoch, done) or _every(settings.every_steps, done):
        return True
    if not settings.every_minutes or done % config.train.log_every_steps:
        return False
    overdue = time.monotonic() - saved >= 60 * settings.every_minutes
    return bool(from_process_0(overdue))


def _every(interval: int, done: int) -> bool:
    return interval > 0 and done % interval == 0


def batches_from(run: Run, state: TrainState, step: int) -> Batches:
    """The training batches from a step on; up to the end of the epoch if the method orders it."""
    sizes, data = run.sizes, run.config.data
    epoch = step // sizes.steps_per_epoch
    order = run.method.epoch_order(state.extra, epoch, run.config.seed, sizes.size)
    return train_batches(
        run.source,
        data.crops,
        sizes.batch_size,
        seed=run.config.seed,
        first_step=step,
        last_step=None if order is None else (epoch + 1) * sizes.steps_per_epoch,
        host=jax.process_index(),
        hosts=jax.process_count(),
        order=None if order is None else lambda _: order,
        max_bad_fraction=data.max_bad_fraction,
        threads=data.threads,
    )


def _fresh_state(run: Run) -> TrainState:
    images = run.config.model.bn_groups
    crops = tuple(
        jnp.zeros((images, count, size, size, 3), run.method.encoder.head.param_dtype)
        for count, size, *_ in run.config.data.crops
    )
    return init_state(run.method, run.optimizer, crops, size=run.sizes.size, seed=run.config.seed)


def init_state(
    method: Method, optimizer: optax.GradientTransformation, crops: Any, *, size: int, seed: int
) -> TrainState:
    """The state before the first step, from example crops of one batch."""
    params, batch_stats, extra = method.init(jax.random.key(seed), crops, size)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        extra=extra,
    )


def train_step(
    state: TrainState,
    batch: dict[str, Any],
    *,
    method: Method,
    optimizer: optax.GradientTransformation,
    schedule: optim.Schedule,
    augment: Callable[..., Any],
    steps_per_epoch: int,
    seed: int,
    parts: int = 1,
) -> tuple[TrainState, Metrics]:
    """One step of any method.

    Args:
      state: where training stands.
      batch: `crops`, uint8 [B, n, S, S, 3] for each kind of crop, `index` and `sample`, int32 [B].
      method: the hyper-parameters and functions of the method.
      optimizer: from gradients to a direction, see `optim.optimizer`.
      schedule: from the step to the learning rate.
      augment: from (crops, sample, epoch) to float crops.
      steps_per_epoch: length of an epoch.
      seed: of the step's own randomness.
      parts: the batch is worked through in so many parts, to save memory.
    """
    clock = Clock(
        step=state.step,
        epoch=state.step // steps_per_epoch,
        key=jax.random.fold_in(jax.random.key(seed), state.step),
    )
    crops = augment(batch["crops"], batch["sample"], epoch=clock.epoch)
    params, extra = method.before_step(state.params, state.extra)
    state = dataclasses.replace(state, params=params, extra=extra)

    take_gradients = (
        partial(gradients.in_parts, parts=parts) if parts > 1 else gradients.whole_batch
    )
    grads, loss, batch_stats, extra, metrics = take_gradients(
        method, state, crops, batch["index"], clock
    )

    direction, opt_state = optimizer.update(grads, state.opt_state, params)
    lr = schedule(state.step)
    moved = jax.tree.map(lambda p, d: p - lr.astype(p.dtype) * d, params, direction)
    frozen = method.frozen(clock)
    metrics |= {"loss": loss, "lr": lr, "gradient_norm": optax.tree.norm(grads)}
    moved = optim.freeze(frozen, moved, params)
    metrics |= {FIRST_BAD: first_nonfinite((params, batch_stats, grads, moved))}
    return TrainState(
        step=state.step + 1,
        params=moved,
        batch_stats=batch_stats,
        opt_state=optim.freeze(frozen, opt_state, state.opt_state),
        extra=extra,
    ), metrics
