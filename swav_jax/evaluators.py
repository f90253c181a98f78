"""The evaluations of a run while it trains: functions by name, each with its own interval."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from swav_jax.data.unreadable import were_read
from swav_jax.evals.classify import classify
from swav_jax.evals.features import pooled
from swav_jax.evals.knn import knn, knn_protocol
from swav_jax.evals.quality import quality
from swav_jax.images import as_evaluated
from swav_jax.methods.contract import TrainState
from swav_jax.methods.supervised import Supervised
from swav_jax.run import Run
from swav_jax.runtime.storage import AnyPath
from swav_jax.workdir import AT_RANDOM, replace_results

Scores = dict[str, Any]  # numbers, and what `record` of the tasks says they are of


def _knn(run: Run, variables: PyTree, between: Callable[[], None]) -> Scores | None:
    settings = run.config.eval
    if run.test_images is None:
        return None
    train, test = (
        dataclasses.replace(images, between=between)
        for images in (run.train_images, run.test_images)
    )
    found = knn(
        partial(pooled, run.method.encoder, variables),
        train,
        test,
        ks=settings.knn_k,
        temperature=settings.knn_temperature,
    )
    if found is None:
        return None
    return found | {
        "protocol": knn_protocol(settings.knn_k, settings.knn_temperature),
        "images": {"train": str(train.source), "test": str(test.source)},
    }


def _classify(run: Run, variables: PyTree, between: Callable[[], None]) -> Scores | None:
    assert isinstance(run.method, Supervised)  # it alone names this evaluation
    train, test = as_evaluated(run.config, run.source), run.test_images
    test = test and dataclasses.replace(test, between=between)
    return classify(run.method.classify, variables, train, test)


def _quality(run: Run, variables: PyTree, between: Callable[[], None]) -> Scores | None:
    count = min(run.config.eval.quality_images, run.source.size)
    if not count:
        return None
    numbers = np.linspace(0, run.source.size - 1, count).astype(np.int64)
    part = run.source.part(numbers, np.full(count, -1, np.int32), ())
    images = as_evaluated(run.config, part)
    if not (images.resize or images.crop):  # they may be large, or some of another size after all
        largest = max(crop[1] for crop in run.config.data.crops)
        images = dataclasses.replace(images, resize=largest, crop=largest)
    images = dataclasses.replace(
        images,
        max_bad_fraction=1.0,  # training counts those of the whole
        between=between,
    )
    rows = pooled(run.method.encoder, variables, images)
    return quality(rows[were_read(rows)])


# From (run, variables, between) to scores, the most important one first; None where there is
# nothing to evaluate on. `between` is called before each batch of images.
# `eval.<name>_every_epochs` is its interval, 0 for only before and after training.
# A method's `evaluators` are those that are meant for it.
EVALUATORS: Mapping[str, Callable[[Run, PyTree, Callable[[], None]], Scores | None]] = {
    "classify": _classify,
    "knn": _knn,
    "quality": _quality,
}


ABOUT = ("protocol", "images")  # of scores that are no numbers


def due(run: Run, done: int) -> list[str]:
    """The evaluators of the method that are due after `done` steps: all of them at the end."""
    names = run.method.evaluators
    if done == run.sizes.total_steps:
        return list(names)
    steps = {
        name: run.config.eval[f"{name}_every_epochs"] * run.sizes.steps_per_epoch for name in names
    }
    return [name for name, every in steps.items() if every and done and done % every == 0]


def evaluate(
    run: Run,
    state: TrainState,
    names: list[str],
    workdir: AnyPath,
    *,
    at_random: bool = False,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Evaluates a run, and writes the scores to `results.json`.

    Args:
      run: whose networks and images they are.
      state: has the parameters.
      names: of EVALUATORS.
      workdir: of the run.
      at_random: the network is not trained yet; its scores are written as `random_init_<score>`,
        without counts.
      between: called before each batch of images; what it raises ends the evaluation, of which
        nothing is written then.

    Returns:
      `<name>_<score>` for all scores that are no counts, which are whole numbers, for the curves.
    """
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    found = {name: EVALUATORS[name](run, variables, between) for name in names}
    curves: dict[str, float] = {}
    for name, scores in found.items():
        if not scores:
            continue
        measured = {score: value for score, value in scores.items() if isinstance(value, float)}
        curves |= {f"{name}_{score}": value for score, value in measured.items()}
        if jax.process_index() == 0:
            if at_random:
                about = {key: value for key, value in scores.items() if key in ABOUT}
                scores = {f"{AT_RANDOM}{score}": value for score, value in measured.items()} | about
            else:
                scores |= {"checkpoint": f"step {int(state.step)}"}
            # Those of earlier steps are in the curves.
            replace_results(workdir, name, scores, any_step=True)
    return curves
