"""Logistic regression on fixed features: the linear evaluation in minutes.

With standardised features f and the classes y of N images, it minimises

    mean_n -ln softmax(W^T f_n + b)_{y_n} + penalty / 2 * |W|^2

over W [F, K] and b [K]; scikit-learn's LogisticRegression has C = 1 / (N penalty). The solver is
optax's L-BFGS: on two CPU cores it takes as long as scikit-learn's, and it runs on accelerators.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

from swav_jax.evals.classify import accuracies
from swav_jax.evals.labelled import Images, readable_pair
from swav_jax.evals.subset import balanced
from swav_jax.ops.precision import full_einsum

PENALTIES = 10.0 ** np.arange(0, -6.5, -0.5)  # from strong to weak: each fit starts at the last
PATIENCE = 3  # penalties without a better accuracy before weaker ones are not tried any more
HELD_OUT = 0.2  # of each class with at least three images, to choose the penalty on
TOLERANCE = 1e-4  # of the gradient's largest entry, as scikit-learn's default
ITERATIONS = 1000

Weights = tuple[Float32[Array, "F K"], Float32[Array, "K"]]


def fast_linear(
    features: Callable[[Images], Float32[np.ndarray, "N F"]],
    train: Images,
    test: Images,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Accuracies of logistic regression on a network's features.

    The penalty is the one that does best on a fifth of each class of the training images, drawn by
    the seed; then all training images are used.

    Args:
      features: of all of some images; NO_FEATURES for one that cannot be read.
      train: images to learn from, of `labelled`.
      test: images to classify, of the same pair.
      seed: of the part that the penalty is chosen on.

    Returns:
      `top1` and `top5` in percent, and the `penalty`.
    """
    known, labels, judged, truth = readable_pair(features, (train, test))
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    deviation[deviation == 0] = 1
    known, judged = (known - mean) / deviation, (judged - mean) / deviation
    classes = len(train.source.class_names)
    penalty = choose_penalty(known, labels, classes, seed)
    weights = fit(known, labels, penalty, start(known.shape[1], classes))
    found = accuracies(scores(weights, judged), truth)
    return found | {"penalty": penalty}


def choose_penalty(
    features: Float[np.ndarray, "N F"], labels: Int[np.ndarray, "N"], classes: int, seed: int
) -> float:
    """The penalty with the highest accuracy on a held-out part; of equal ones the strongest."""
    held = np.ones(len(labels), bool)
    held[balanced(labels, 1 - HELD_OUT, seed)] = False
    known, judged = features[~held], features[held]
    weights = start(features.shape[1], classes)
    best, chosen, since = -1.0, float(PENALTIES[0]), 0
    if not held.any():
        logging.warning("too few images to choose a penalty on: it is %g", chosen)
        return chosen
    for penalty in map(float, PENALTIES):
        weights = fit(known, labels[~held], penalty, weights)
        top1 = accuracies(scores(weights, judged), labels[held])["top1"]
        logging.info("penalty %.2g: %.2f %% of the held-out images are right", penalty, top1)
        since += 1
        if top1 > best:
            best, chosen, since = top1, penalty, 0
        if since == PATIENCE:
            break
    return chosen


def start(features: int, classes: int) -> Weights:
    """W = 0 and b = 0."""
    return jnp.zeros((features, classes), jnp.float32), jnp.zeros(classes, jnp.float32)


def fit(
    features: Float[np.ndarray, "N F"],
    labels: Int[np.ndarray, "N"],
    penalty: float,
    weights: Weights,
) -> Weights:
    """The minimum, from a start; float32 in full precision, all on one device.

    Args:
      features: of N images.
      labels: their classes, from 0 to K - 1.
      penalty: of the squared weights, for the mean over images.
      weights: to start from.
    """
    rows = jnp.asarray(features, jnp.float32), jnp.asarray(labels, jnp.int32)
    return _minimise(weights, *rows, jnp.float32(penalty))


@jax.jit
def _minimise(
    weights: Weights,
    features: Float32[Array, "N F"],
    labels: Int32[Array, "N"],
    penalty: Float32[Array, ""],
) -> Weights:
    optimizer = optax.lbfgs()
    loss = partial(_loss, features=features, labels=labels, penalty=penalty)
    value_and_grad = optax.value_and_grad_from_state(loss)

    def go_on(carry: tuple[Weights, Any]) -> Bool[Array, ""]:
        state = carry[1]
        gradient = optax.tree.get(state, "grad")
        count = optax.tree.get(state, "count")
        large = optax.tree.norm(gradient, ord=jnp.inf) > TOLERANCE
        return (count == 0) | ((count < ITERATIONS) & large)

    def iterate(carry: tuple[Weights, Any]) -> tuple[Weights, Any]:
        weights, state = carry
        value, gradient = value_and_grad(weights, state=state)
        updates, state = optimizer.update(
            gradient, state, weights, value=value, grad=gradient, value_fn=loss
        )
        return optax.apply_updates(weights, updates), state

    return lax.while_loop(go_on, iterate, (weights, optimizer.init(weights)))[0]


def _loss(
    weights: Weights,
    features: Float32[Array, "N F"],
    labels: Int32[Array, "N"],
    penalty: Float32[Array, ""],
) -> Float32[Array, ""]:
    losses = optax.softmax_cross_entropy_with_integer_labels(_scores(weights, features), labels)
    return losses.mean() + penalty / 2 * jnp.sum(weights[0] ** 2)


def scores(weights: Weights, features: Float[np.ndarray, "M F"]) -> Float32[np.ndarray, "M K"]:
    """W^T f + b of each image."""
    return np.asarray(_scores(weights, jnp.asarray(features, jnp.float32)))


@jax.jit
def _scores(weights: Weights, features: Float32[Array, "M F"]) -> Float32[Array, "M K"]:
    return full_einsum("mf,fk->mk", features, weights[0]) + weights[1][None, :]
