"""This library beside the golden numbers: pairs of arrays, on whatever device JAX computes.

`test_parity.py` holds the pairs to their bounds on a CPU, `benchmarks.gpu` measures them on a GPU.
"""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from golden_files import W, golden

from swav_jax import optim
from swav_jax.data.batch import Batch
from swav_jax.methods.swav import SwAV
from swav_jax.models.backbones import backbone
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.ops.sinkhorn import sinkhorn
from swav_jax.runtime.xla import RUNS_ONCE
from swav_jax.step import init_state, train_step
from swav_jax.weights.torch_names import from_torch, to_torch

Pairs = Iterator[tuple[str, np.ndarray, np.ndarray]]  # name, ours, theirs


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The length of the difference, as a share of theirs."""
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def golden_variables(module: Any, seed: int, *args: Any) -> Any:
    """Variables of `module` with the golden weights, each drawn by its PyTorch name."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *args, train=False))
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    return from_torch({name: W.weight(seed, name, x.shape) for name, x in to_torch(zeros).items()})


def backbone_pairs(name: str) -> Pairs:
    """Features of a file `backbone_*.npz` in both modes, and running statistics."""
    file = golden(name)
    seed = file["seed"]
    net = backbone(name.removeprefix("backbone_").removesuffix(".npz"))
    # The tree {"backbone": ...} of an Encoder is what the name rule speaks of.
    encoder = Encoder(net, ProjectionHead(hidden=0, dim=1))
    variables = golden_variables(encoder, seed, [jnp.zeros((1, 1, 32, 32, 3))])
    for key in sorted(k for k in file if k.startswith(("eval", "train"))):
        mode, size = key[:-2].rstrip("0123456789"), int(key.lstrip("evaltrin"))
        images = W.images(seed, f"input{size}", (2, 3, size, size)).transpose(0, 2, 3, 1)
        forward = partial(
            encoder.apply,
            train=mode.startswith("train"),
            method="features",
            mutable=["batch_stats"],
        )
        features, updates = jax.jit(forward)(variables, images)
        yield key, np.asarray(features), file[key]
        if mode.startswith("train"):
            running = to_torch(updates)
            for buffer in (k for k in file if "_running_" in k):
                yield buffer, running[buffer.replace("_running_", ".running_")], file[buffer]


def sinkhorn_pairs() -> Pairs:
    """Codes of `sinkhorn.npz`, from scores in float32."""
    g = golden("sinkhorn.npz")
    for key in (k for k in g if k.startswith("q_")):
        k, b, eps, steps = re.fullmatch(r"q_K(\d+)_B(\d+)_eps([\d.]+)_it(\d+)", key).groups()
        z = _unit(W.images(g["seed"], f"z{k}", (int(b), 32)).astype(np.float64))
        c = _unit(W.images(g["seed"], f"c{k}", (int(k), 32)).astype(np.float64))
        scores = jnp.asarray(z @ c.T, jnp.float32)
        codes = sinkhorn(scores, epsilon=float(eps), iterations=int(steps)).codes
        yield key, np.asarray(codes)[: len(g[key])], g[key]


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def larc_pairs() -> Pairs:
    """Parameters after each step of `larc_sgd.npz`; needs float64."""
    g = golden("larc_sgd.npz")
    names = [k.removeprefix("step0.") for k in g if k.startswith("step0.")]
    params = {n: W.weight(g["seed"], n, g[f"step0.{n}"].shape).astype(np.float64) for n in names}
    params["zero.weight"] = np.zeros_like(params["zero.weight"])
    tx = optim.optimizer("larc", weight_decay=g["weight_decay"], momentum=0.9)
    state = tx.init(params)
    for t, lr in enumerate(g["lr"]):
        grads = {
            n: W.images(g["seed"], f"grad{t}.{n}", p.shape).astype(np.float64)
            for n, p in params.items()
        }
        if t == 3:
            grads["bn.bias"] *= 0
        frozen = {"fc.weight": t < 2}
        direction, new_state = tx.update(grads, state, params)
        state = optim.freeze(frozen, new_state, state)
        moved = {n: params[n] - lr * direction[n] for n in names}
        params = optim.freeze(frozen, moved, params)
        for n in names:
            yield f"step{t}.{n}", np.asarray(params[n]), g[f"step{t}.{n}"]


def trajectory_pairs(name: str) -> Pairs:
    """Rates, losses and the last parameters of a file `swav_trajectory_*.npz`; needs float64."""
    g = golden(name)
    seed, batch, total = g["seed"], g["batch"], len(g["loss"])
    encoder = Encoder(
        backbone("resnet14", dtype=jnp.float64, param_dtype=jnp.float64),
        ProjectionHead(32, 16, dtype=jnp.float64, param_dtype=jnp.float64),
    )
    method = SwAV(
        encoder=encoder,
        prototypes=g["prototypes"],
        heads=1,
        freeze_prototypes_steps=g["freeze_prototypes_niters"],
        queue_length=g["queue_length"],
        queue_start_epoch=4,
    )
    optimizer = optim.optimizer("larc", weight_decay=1e-6, momentum=0.9)
    schedule = optim.warmup_cosine(
        base=4.8, final=0.0048, start=0.3, warmup_steps=g["warmup"], total_steps=total
    )
    step = jax.jit(
        partial(
            train_step,
            method=method,
            optimizer=optimizer,
            schedule=schedule,
            augment=lambda batch, epoch: batch.crops,
            steps_per_epoch=1,
            seed=0,
        )
    )

    def crops(t: int) -> tuple[np.ndarray, ...]:
        sizes = (64, 64, 32, 32)
        images = [W.images(seed, f"step{t}.crop{i}", (batch, 3, s, s)) for i, s in enumerate(sizes)]
        return tuple(np.transpose(x, (0, 2, 3, 1)).astype(np.float64)[:, None] for x in images)

    initial = jax.jit(
        partial(init_state, method, optimizer, size=batch, seed=0), compiler_options=RUNS_ONCE
    )
    state = initial(crops(0))
    ours = to_torch({"params": state.params, "batch_stats": state.batch_stats})
    drawn = {n: W.weight(seed, n, x.shape).astype(np.float64) for n, x in ours.items()}
    state = state.replace(**from_torch(drawn))
    numbers, losses, lrs = np.arange(batch, dtype=np.int32), [], []
    for t in range(total):
        state, metrics = step(state, Batch(crops(t), numbers, numbers))
        losses.append(float(metrics["loss"]))
        lrs.append(float(metrics["lr"]))
    yield "lr", np.asarray(lrs), g["lr"]
    yield "loss", np.asarray(losses), g["loss"]
    final = to_torch({"params": state.params, "batch_stats": state.batch_stats})
    for key in [k for k in g if k.startswith("final.") and k not in ("final.names", "final.norms")]:
        yield key, np.asarray(final[key.removeprefix("final.")]), g[key]
    norms = np.asarray([np.linalg.norm(final[n]) for n in g["final.names"]])
    yield "final.norms", norms, g["final.norms"]
