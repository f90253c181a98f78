"""SwAV's step of ResNet-50 in PyTorch: channels last, bfloat16 by autocast, compiled.

The backbone is torchvision's; head, prototypes, codes and loss are those of the paper, the
optimiser is SGD with momentum. It gets crops that are augmented already, where ours augments them.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.gpu.cards import first_batch

TEMPERATURE, EPSILON, ITERATIONS = 0.1, 0.05, 3


def measure(flags: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Images a second at the largest power of two that fits; None without PyTorch for this card."""
    try:
        import torch  # here and below: the part of a machine without it is empty
        import torchvision
    except ModuleNotFoundError as missing:
        yield {"images_per_second": None, "why": str(missing)}
        return
    if flags.small:
        crops, seconds, batch = ((2, 64), (2, 32)), 0.2, 4
        device, make = torch.device("cpu"), torchvision.models.resnet18
    elif torch.cuda.is_available():
        crops, seconds = ((2, 224), (6, 96)), 8
        device, make = torch.device("cuda"), torchvision.models.resnet50
        batch = first_batch(torch.cuda.mem_get_info()[1])
    else:
        yield {"images_per_second": None, "why": "PyTorch sees no CUDA device"}
        return
    yield {"torch": torch.__version__}
    while batch:
        try:
            yield {"batch": batch} | timed(
                with_head(make()), crops, batch, device, seconds, flags.small
            )
            return
        except torch.cuda.OutOfMemoryError:
            pass  # until this clause ends, the error's frames hold the memory
        torch.compiler.reset()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()  # not that of the batch that did not fit
        batch //= 2
    yield {"images_per_second": None, "why": "not even one image fits"}


def with_head(network: Any) -> Any:
    """A network of torchvision with SwAV's projection head in place of its classifier."""
    from torch import nn

    hidden = nn.Linear(network.fc.in_features, 2048)
    network.fc = nn.Sequential(hidden, nn.BatchNorm1d(2048), nn.ReLU(True), nn.Linear(2048, 128))
    return network


def balanced(scores: Any) -> Any:
    """Codes [B, K] by Sinkhorn: columns, then rows, sum to one."""
    codes = (scores / EPSILON).exp()
    for _ in range(ITERATIONS):
        codes = codes / codes.sum(0)
        codes = codes / codes.sum(1, keepdim=True)
    return codes


def swapped_loss(scores: Any, codes: Sequence[Any]) -> Any:
    """The mean cross-entropy between codes of a crop and what all other crops predict.

    Args:
      scores: of all crops, [V, B, K].
      codes: of the first crops, [B, K] each.
    """
    log_p = (scores / TEMPERATURE).log_softmax(-1)
    terms = [
        -(code * log_p[other]).sum(-1).mean()
        for crop, code in enumerate(codes)
        for other in range(len(scores))
        if other != crop
    ]
    return sum(terms) / len(terms)


def timed(
    network: Any,
    crops: tuple[tuple[int, int], ...],
    batch: int,
    device: Any,
    seconds: float,
    small: bool,
) -> dict[str, Any]:
    """Speed, compile time, memory and last loss of training steps.

    Args:
      network: from images to embeddings.
      crops: (number, pixels) of each kind.
      batch: images.
      device: to train on.
      seconds: to take steps for.
      small: as of `training_step`.
    """
    import torch

    step = training_step(network.to(device, memory_format=torch.channels_last), crops, batch, small)
    begin = time.perf_counter()
    step()
    compile_seconds = time.perf_counter() - begin
    step()
    steps, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds or not steps:
        loss = step()
        steps += 1
    return {
        "images_per_second": batch * steps / spent,
        "steps": steps,
        "loss": loss,
        "compile_seconds": compile_seconds,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
    }


def training_step(
    network: Any, crops: tuple[tuple[int, int], ...], batch: int, small: bool
) -> Callable[[], float]:
    """A function that takes the next step on noise, waits for it, and gives its loss.

    Args:
      network: from images to embeddings, on its device.
      crops: (number, pixels) of each kind.
      batch: images.
      small: not compiled, with few prototypes.
    """
    import torch
    from torch import nn

    device = next(network.parameters()).device
    prototypes = nn.Linear(128, 30 if small else 3000, bias=False, device=device)
    parameters = [*network.train().parameters(), *prototypes.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-6)
    images = [
        torch.randn(n * batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
        for n, size in crops
    ]
    views = sum(n for n, _ in crops)

    def loss_of(images: list[Any]) -> Any:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            z = torch.cat([network(x) for x in images])
        z = nn.functional.normalize(z.float())
        scores = prototypes(z).view(views, batch, -1)
        return swapped_loss(scores, [balanced(scores[crop].detach()) for crop in (0, 1)])

    loss_of = loss_of if small else torch.compile(loss_of)

    def step() -> float:
        with torch.no_grad():
            prototypes.weight.copy_(nn.functional.normalize(prototypes.weight))
        loss = loss_of(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()  # waits for the device

    return step
