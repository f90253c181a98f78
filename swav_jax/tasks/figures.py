"""What a task found out: written to `results.json`, and printed as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from swav_jax.evals.labelled import Images
from swav_jax.trained import Trained
from swav_jax.workdir import AT_RANDOM, replace_results

Figures = Mapping[str, Any]

LEAVE_ONE_OUT = "leave-one-out: each image among all others"  # begins a protocol


def record(
    trained: Trained,
    task: str,
    figures: Figures,
    *,
    at_random: Figures | None = None,
    protocol: str,
    part: str = "",
    **images: Images | None,
) -> None:
    """Puts a task's figures into `results.json` and prints them, in process 0.

    Earlier figures of the task stay if they are of the same images and checkpoint, by the same
    protocol; else they move to `earlier`.

    Args:
      trained: the network that was judged.
      task: name of the figures.
      figures: of the trained network, the most important one first; counts are whole numbers.
      at_random: the same of the network before training, as far as it is known.
      protocol: how they were measured, in a line.
      part: of the task that they are of, if it has several; begins their names, as in `fast_top1`.
      images: that they were measured on, by their part: `train`, `test`.
    """
    if jax.process_index() != 0:
        return
    begin = f"{part}_" if part else ""
    figures = {f"{begin}{name}": value for name, value in figures.items()}
    at_random = {
        f"{begin}{name}": value
        for name, value in (at_random or {}).items()
        if isinstance(value, float)
    }
    before = {f"{AT_RANDOM}{name}": value for name, value in at_random.items()}
    of = {which: str(some.source) for which, some in images.items() if some}
    step = f"step {trained.checkpoint.name}"
    about = {f"{begin}protocol": protocol, "images": of, "checkpoint": step}
    print(table(task, figures, at_random))  # first: the disk may be full
    replace_results(trained.workdir, task, figures | before | about)


def table(task: str, figures: Figures, at_random: Figures) -> str:
    """The figures as lines of text, with those of the random network beside them."""
    rows = [(task, "trained", "before training" if at_random else "")]
    rows += [
        (name, _shown(value), _shown(at_random.get(name, ""))) for name, value in figures.items()
    ]
    return aligned(rows)


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of text in columns, of which all but the first end at one place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [f"{name:<{widths[0]}}", *(f"{x:>{w}}" for x, w in zip(cells, widths[1:], strict=True))]
        ).rstrip()
        for name, *cells in rows
    )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
