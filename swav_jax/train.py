"""Pretraining, from top to bottom. Read this file first: what it calls has a module each."""

import time
from contextlib import nullcontext

import jax
from absl import logging
from ml_collections import ConfigDict

from swav_jax import clustering, evaluators, sharding
from swav_jax.checkpoints.store import Checkpoints
from swav_jax.data.batch import TrainBatches
from swav_jax.data.sources.source import Source
from swav_jax.methods.contract import TrainState
from swav_jax.monitor.curves import draw_curves
from swav_jax.monitor.summary import summary
from swav_jax.monitor.watch import Watch
from swav_jax.resumption import resume, save
from swav_jax.run import Run, build, training_batches
from swav_jax.runtime.interruption import Interrupted, Interruption
from swav_jax.runtime.processes import check_same, from_process_0, warn
from swav_jax.runtime.storage import AnyPath, write_whole
from swav_jax.runtime.xla import compiled_ahead
from swav_jax.step import Step, batch_of, compiled_step, draw_state, shardings, state_shapes
from swav_jax.weights.origin import open_origin, start_from
from swav_jax.workdir import AT_RANDOM, CHECKPOINTS, SUMMARY, claimed, read_results


def pretrain(config: ConfigDict, workdir: AnyPath, source: Source | None = None) -> None:
    """Trains from scratch, or resumes at the newest checkpoint in the workdir.

    Args:
      config: of the run.
      workdir: of the run.
      source: the training images, if not those of `config.data`.

    Raises:
      ConfigError: settings that cannot work, or a workdir that belongs to another run.
      LaunchError: processes that differ in settings or images.
      Interrupted: after a signal; the state is saved.
    """
    # ---- what the configuration means here: checked before anything is computed or written ------
    run, process_0 = build(config, source), jax.process_index() == 0
    config = run.config
    images = "; ".join(f"{source} (digest {source.digest})" for source in run.sources)
    check_same(f"{images}; on the devices: {run.cached_size}, and {config.to_json()}")

    with (
        jax.set_mesh(run.mesh),
        claimed(config, workdir) if process_0 else nullcontext(),
        Checkpoints(
            workdir / CHECKPOINTS,
            keep_last=config.checkpoint.keep_last,
            keep_every=config.checkpoint.keep_every_steps,
        ) as checkpoints,
        Interruption() as interruption,
    ):
        # ---- the state: the newest checkpoint's, else a fresh one -------------------------------
        shapes = state_shapes(run)
        for warning in sharding.unused_settings(
            shardings(shapes), config.mesh.model, config.mesh.bank_memory
        ):
            warn(warning)
        take_step = compiled_step(run, shapes)
        state = resume(run, shapes, checkpoints)
        if state is None:
            take_step = compiled_ahead(take_step, shapes, batch_of(run))  # while the state is made
            state = start(run, shapes, workdir, interruption)

        # ---- the steps --------------------------------------------------------------------------
        if process_0:
            said = summary(run, shapes)
            logging.info(said)
            write_whole(workdir / SUMMARY, f"{said}\n")
        interrupted = None
        with Watch(run, workdir, first_step=int(state.step)) as watch:
            try:
                run_steps(run, state, take_step, checkpoints, interruption, watch)
            except Interrupted as end:
                interrupted = end

    # ---- the end, or an interruption ------------------------------------------------------------
    if process_0:
        draw_curves(workdir)
    if interrupted:
        logging.info("interrupted: the same command resumes")
        raise interrupted


def start(run: Run, shapes: TrainState, workdir: AnyPath, interruption: Interruption) -> TrainState:
    """A fresh state, with the trained parts of `init_from`; records the random network's scores."""
    origin = open_origin(run.config, shapes) if run.config.init_from else None
    state, results = draw_state(run, shapes), read_results(workdir)
    for name in run.method.evaluators:
        noted = any(score.startswith(AT_RANDOM) for score in results.get(name, {}))
        if not from_process_0(noted):
            evaluators.evaluate(
                run, state, [name], workdir, at_random=True, between=interruption.check
            )
    return start_from(state, origin) if origin else state


def run_steps(
    run: Run,
    state: TrainState,
    take_step: Step,
    checkpoints: Checkpoints,
    interruption: Interruption,
    watch: Watch,
) -> None:
    """The steps from the state's to the last.

    Raises:
      Interrupted: before that; the state is saved.
    """
    batches: TrainBatches | None = None
    saved, saved_step, total = time.monotonic(), int(state.step), run.sizes.total_steps
    for step in range(saved_step, total):
        # ---- between two steps: evaluation, the epoch boundary ----------------------------------
        try:
            evaluate(run, state, watch, interruption, done=step)
            if clustering.due(run, step):
                with watch.pause(state):
                    state, scores = clustering.cluster(run, state, step, interruption.check)
                watch.note(step, scores)
                if scores:  # the method may draw images in another order now
                    batches = None
        except Interrupted:  # a resumed run begins with them
            if saved_step < step:
                save(run, state, checkpoints)
            raise

        # ---- the step ---------------------------------------------------------------------------
        batches = batches or batches_from(run, state, step)
        batch = next(batches)
        watch.before(step, batches, batch)
        placed = sharding.put_batch(run.mesh, batch)
        with jax.transfer_guard("disallow"):  # a step that waits for the host is a mistake
            state, metrics = take_step(state, placed)
        watch.after(step, state, metrics)

        # ---- the checkpoint ---------------------------------------------------------------------
        done, interrupted = step + 1, interruption.due()
        if done == total or interrupted or checkpoint_due(run, done, saved):
            watch.read(state)  # raises if the state is not worth keeping
            save(run, state, checkpoints)
            saved, saved_step = time.monotonic(), done
        if interrupted and done < total:
            raise Interrupted
    evaluate(run, state, watch, interruption, done=total)


def evaluate(
    run: Run, state: TrainState, watch: Watch, interruption: Interruption, done: int
) -> None:
    """Runs the evaluations that are due after `done` steps; a resumed run repeats those there."""
    if names := evaluators.due(run, done):
        with watch.pause(state):
            scores = evaluators.evaluate(
                run, state, names, watch.workdir, between=interruption.check
            )
        watch.note(done, scores)


def batches_from(run: Run, state: TrainState, step: int) -> TrainBatches:
    """The training batches from a step on; up to the end of the epoch if the method orders it."""
    sizes = run.sizes
    epoch = step // sizes.steps_per_epoch
    order = run.method.epoch_order(state.extra, epoch, run.config.seed, sizes.size)
    if order is None:
        return training_batches(run, step)
    return training_batches(run, step, (epoch + 1) * sizes.steps_per_epoch, lambda _: order)


def checkpoint_due(run: Run, done: int, saved: float) -> bool:
    """Whether a checkpoint is due after `done` steps; the same answer in every process.

    Args:
      run: whose settings say when.
      done: steps.
      saved: when the last one was saved, by `time.monotonic`.
    """
    settings, steps_per_epoch = run.config.checkpoint, run.sizes.steps_per_epoch
    intervals = settings.every_epochs * steps_per_epoch, settings.every_steps
    if any(every and done % every == 0 for every in intervals):
        return True
    if not settings.every_minutes or done % run.config.train.log_every_steps:
        return False
    return bool(from_process_0(time.monotonic() - saved >= 60 * settings.every_minutes))
