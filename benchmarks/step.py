"""Forward and backward pass of the networks, by themselves or beside PyTorch.

    pip install -e ".[peers]"
    python -m benchmarks.step --peer [--arch resnet18_thin] [--stem cifar] [--crops 2x32,2x20]
                              [--batch 256] [--steps 5]

Ours is what training runs. The peer is the same network made of PyTorch's modules, in NCHW and in
channels-last layout, in a process of its own that uses as many threads; the faster layout counts.
Both run in turn, so that whatever else the machine does slows both; the fastest step counts.
Compilation is not timed. PyTorch's threads wait for each other at every layer, so that its figures
need a machine without other work. The last line is JSON.
"""

import argparse
import contextlib
import json
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from benchmarks.flags import check_peer, count, crop_sizes
from swav_jax.models.backbones import backbone
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.models.resnet import ARCHS, STEMS, BasicBlock
from swav_jax.runtime.machine import cores
from swav_jax.runtime.xla import reuse_freed_memory, start, step_options

DIM = 128  # of the projection head, both layers
PYTORCH = ("pytorch", "pytorch_channels_last")
# Seconds before the steps of each: the threads of the other may still spin, waiting for work.
REST = 0.3
IN_A_ROW = 3  # as in training: the first step after a pause finds cold caches and sleeping threads


def main() -> None:
    """Times one or both and prints images a second."""
    flags = parse_flags()
    start()
    reuse_freed_memory()
    ours, parameters = compiled_step(flags)
    steps = {"ours": lambda: timed(ours)}
    if flags.peer:
        steps |= pytorch_steps(flags, parameters)
    rounds = [[fastest(step) for step in steps.values()] for _ in range(flags.steps)]
    seconds = dict(zip(steps, np.min(rounds, axis=0).tolist(), strict=True))
    speeds = {name: flags.batch / value for name, value in seconds.items()}
    for name, value in speeds.items():
        print(f"{name}: {value:.3g} images/s")
    result: dict[str, Any] = {"jaxlib": jaxlib.__version__, "device": jax.devices()[0].device_kind}
    result["images_per_second"] = speed = speeds.pop("ours")
    if flags.peer:
        result["peer_images_per_second"] = max(speeds.values())
        result |= {"ratio": speed / max(speeds.values()), "peers": speeds}
    print(json.dumps(vars(flags) | result))


def parse_flags() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet18_thin", choices=ARCHS)
    parser.add_argument("--stem", default="cifar", choices=STEMS)
    parser.add_argument("--crops", type=crop_sizes, default="2x32,2x20", help="COUNTxPIXELS,...")
    parser.add_argument("--batch", type=count, default=256, help="images")
    parser.add_argument("--steps", type=count, default=5, help="turns of each, of three steps")
    parser.add_argument("--peer", action="store_true", help="PyTorch beside it")
    flags = parser.parse_args()
    if flags.peer:
        check_peer("torch")
    return flags


def batch_of(flags: argparse.Namespace) -> tuple[list[np.ndarray], np.ndarray]:
    """Random crops [B, n, S, S, 3] of each size, and weights of the embeddings [B, V, D]."""
    rng = np.random.default_rng(0)
    crops = [rng.normal(size=(flags.batch, n, side, side, 3)) for n, side in flags.crops]
    target = rng.normal(size=(flags.batch, sum(n for n, _ in flags.crops), DIM))
    return [crop.astype(np.float32) for crop in crops], target.astype(np.float32)


def compiled_step(flags: argparse.Namespace) -> tuple[Callable[[], object], int]:
    """One value and gradient of a loss that depends on every embedding; number of parameters."""
    encoder = Encoder(backbone(flags.arch, stem=flags.stem), ProjectionHead(hidden=DIM, dim=DIM))
    crops, target = jax.tree.map(jnp.asarray, batch_of(flags))
    first = [crop[:1] for crop in crops]
    variables = jax.jit(lambda: encoder.init(jax.random.key(0), first, train=False))()

    def loss(params: dict, batch_stats: dict, crops: list, target: jax.Array) -> tuple:
        variables = {"params": params, "batch_stats": batch_stats}
        z, updates = encoder.apply(variables, crops, train=True, mutable=["batch_stats"])
        return (z * target).sum(), updates

    options = step_options(jax.default_backend())
    step = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=options)
    arguments = variables["params"], variables["batch_stats"], crops, target
    compiled = step.lower(*arguments).compile()
    return lambda: compiled(*arguments), sum(p.size for p in jax.tree.leaves(arguments[0]))


def fastest(step: Callable[[], float]) -> float:
    """Seconds of the fastest of some steps in a row, on cores that the other has left."""
    time.sleep(REST)
    return min(step() for _ in range(IN_A_ROW))


def timed(step: Callable[[], object]) -> float:
    """Seconds of one step."""
    begin = time.perf_counter()
    jax.block_until_ready(step())
    return time.perf_counter() - begin


def pytorch_steps(flags: argparse.Namespace, parameters: int) -> dict[str, Callable[[], float]]:
    """Functions that let a second process take a step, and return its seconds."""
    spawn = multiprocessing.get_context("spawn")
    connection, theirs = spawn.Pipe()
    spawn.Process(target=serve_pytorch, args=(flags, theirs), daemon=True).start()
    theirs.close()
    their_parameters = connection.recv()
    if their_parameters != parameters:
        raise SystemExit(f"the peer has {their_parameters} parameters, not {parameters}")

    def seconds(name: str) -> float:
        connection.send(name)
        return connection.recv()

    return {name: lambda name=name: seconds(name) for name in PYTORCH}  # type: ignore[misc]


def serve_pytorch(flags: argparse.Namespace, connection: Connection) -> None:
    """Sends the number of parameters, then the seconds of a step for each name received."""
    import torch

    torch.set_num_threads(cores())
    network = pytorch_network(flags)
    arrays, weights = batch_of(flags)
    target = torch.from_numpy(weights)
    nchw = [torch.from_numpy(x.reshape(-1, *x.shape[2:])).permute(0, 3, 1, 2) for x in arrays]
    layouts = dict(zip(PYTORCH, (torch.contiguous_format, torch.channels_last), strict=True))

    def step(name: str) -> float:
        network.to(memory_format=layouts[name])
        crops = [x.contiguous(memory_format=layouts[name]) for x in nchw]
        begin = time.perf_counter()
        network.zero_grad()
        features = [network.backbone(x).unflatten(0, (flags.batch, -1)) for x in crops]
        z = network.head(torch.cat(features, 1).flatten(0, 1))
        z = torch.nn.functional.normalize(z).reshape(target.shape)
        (z * target).sum().backward()
        return time.perf_counter() - begin

    for name in PYTORCH:
        step(name)
    connection.send(sum(p.numel() for p in network.parameters()))
    with contextlib.suppress(EOFError):  # the other end is closed
        while True:
            connection.send(step(connection.recv()))


def pytorch_network(flags: argparse.Namespace) -> Any:
    """The network of `compiled_step` as PyTorch modules: `backbone` and `head`."""
    from torch import nn

    def conv_bn(inputs: int, outputs: int, size: int, stride: int = 1) -> list:
        conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        return [conv, nn.BatchNorm2d(outputs)]

    class Block(nn.Module):
        def __init__(self, inputs: int, features: int, stride: int) -> None:
            super().__init__()
            outputs = features * settings["block"].expansion
            if settings["block"] is BasicBlock:
                layers = conv_bn(inputs, features, 3, stride)
            else:
                layers = [*conv_bn(inputs, features, 1), nn.ReLU(inplace=True)]
                layers += conv_bn(features, features, 3, stride)
            last = conv_bn(features, outputs, 3 if settings["block"] is BasicBlock else 1)
            self.residual = nn.Sequential(*layers, nn.ReLU(inplace=True), *last)
            same = stride == 1 and inputs == outputs
            self.shortcut = nn.Sequential(*([] if same else conv_bn(inputs, outputs, 1, stride)))
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Any) -> Any:
            return self.relu(self.residual(x) + self.shortcut(x))

    settings = ARCHS[flags.arch]
    size, stride, pooled = STEMS[flags.stem]
    channels = settings["width"]
    layers = [*conv_bn(3, channels, size, stride), nn.ReLU(inplace=True)]
    layers += [nn.MaxPool2d(3, 2, 1)] if pooled else []
    for stage, blocks in enumerate(settings["stage_sizes"]):
        for i in range(blocks):
            features = settings["width"] * 2**stage
            layers.append(Block(channels, features, 2 if stage and not i else 1))
            channels = features * settings["block"].expansion
    network = nn.Module()
    network.backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.head = nn.Sequential(
        nn.Linear(channels, DIM), nn.BatchNorm1d(DIM), nn.ReLU(inplace=True), nn.Linear(DIM, DIM)
    )
    return network


if __name__ == "__main__":
    main()
