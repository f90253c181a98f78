"""Curves of metrics as drawings of a page."""

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from swav_jax.workdir import scores_before_training

Points = Sequence[tuple[float, float]]  # (epoch, value)

WIDTH, HEIGHT = 320, 170  # of a drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 40, 6, 10, 20  # margins
COLOURS = 8  # of the style; more lines share them
MOST = 200  # points of a line; more are averaged
DOTS = 20  # points of a line at most that are shown each

# Metrics that are drawn if they were logged, and what they are called.
TITLES = {
    "loss": "Loss",
    "knn_top1": "k-NN accuracy, %",
    "classify_top1": "Test accuracy, %",
    "quality_rankme": "Effective rank (RankMe)",
    "code_entropy": "Entropy of a code, nats",
    "prototypes_used": "Share of prototypes used",
    "clusters_used": "Share of clusters used",
    "nmi_labels": "NMI with labels",
    "cluster_accuracy": "Clusters predicted",
    "positive_accuracy": "Other crop found",
    "embedding_std": "Spread of embeddings",
    "lr": "Learning rate",
}
OF_UNIFORM = ("loss", "code_entropy")  # that are ln K where all of K prototypes are equally likely


class Mark(NamedTuple):
    """A level to compare a curve with."""

    name: str
    value: float


def metric_curves(
    lines: Sequence[Mapping[str, float]], results: Mapping[str, Any]
) -> dict[str, list[tuple[float, float]]]:
    """The points of each metric of TITLES that was logged, and those before training.

    Args:
      lines: of `metrics.jsonl`.
      results: of `results.json`, which holds the scores of the network before training.
    """
    lines = [{"epoch": 0.0} | scores_before_training(results), *lines]
    found = {
        name: [(line["epoch"], line[name]) for line in lines if name in line and "epoch" in line]
        for name in TITLES
    }
    return {name: points for name, points in found.items() if len(points) > 1}


def marks(lines: Sequence[Mapping[str, float]], prototypes: int) -> dict[str, Mark]:
    """Levels to draw: ln K, for methods whose loss is that of predicting one of K."""
    if not any({"code_entropy", "cluster_accuracy"} & line.keys() for line in lines):
        return {}
    return {name: Mark("ln K", math.log(prototypes)) for name in OF_UNIFORM}


def curve(title: str, series: Mapping[str, Points], mark: Mark | None = None) -> str:
    """A drawing of one metric, with its last value; the script shows the others.

    Args:
      title: what is drawn.
      series: a line for each run by its name; a single run's needs none. Not all are empty.
      mark: a level to compare with.
    """
    series = {name: _thinned(points) for name, points in series.items()}
    frame = _frame(series, mark)
    parts = [
        *_axes(frame),
        *(_level(mark, frame) if mark else []),
        *_lines(series, frame),
        f'<line class="cursor" visibility="hidden" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>',
    ]
    texts = [
        (frame.across(x), frame.down(y), f"{name} {y:.4g} at epoch {x:.4g}".strip())
        for name, points in series.items()
        for x, y in points
    ]
    ends = {name: (points[0][1], points[-1][1]) for name, points in series.items() if points}
    last = f"{next(iter(ends.values()))[1]:.4g}" if len(series) == 1 else ""
    said = f"{title}: " + "; ".join(
        f"{name} from {a:.4g} to {b:.4g}".strip() for name, (a, b) in ends.items()
    )
    return (
        f'<figure class="curve"><figcaption>{escape(title)}<b>{last}</b></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}" '
        f"data-points='{escape(json.dumps(texts))}'>{''.join(parts)}</svg></figure>"
    )


class _Frame(NamedTuple):
    """What a drawing shows, from its lower left to its upper right corner."""

    epochs: float
    ticks: list[float]
    low: float
    high: float

    def across(self, epoch: float) -> float:
        return round(LEFT + epoch / self.epochs * (WIDTH - LEFT - RIGHT), 1)

    def down(self, value: float) -> float:
        share = (self.high - value) / (self.high - self.low)
        return round(TOP + share * (HEIGHT - TOP - BOTTOM), 1)


def _frame(series: Mapping[str, Points], mark: Mark | None) -> _Frame:
    """The frame that all points and the mark fit into."""
    values = [y for points in series.values() for _, y in points]
    values += [mark.value] if mark else []
    epochs = max(x for points in series.values() for x, _ in points) or 1.0
    steps = ticks(min(values), max(values))
    return _Frame(epochs, steps, min(steps[0], *values), max(steps[-1], *values))


def _axes(frame: _Frame) -> list[str]:
    """A line and a number for each tick, and the first and the last epoch."""
    parts = [
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        f'<text x="{LEFT - 5}" y="{y + 3.5}" text-anchor="end">{value:.6g}</text>'
        for value, y in ((value, frame.down(value)) for value in frame.ticks)
    ]
    return [
        *parts,
        f'<text x="{LEFT}" y="{HEIGHT - 5}">0</text>',
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end">{frame.epochs:.3g} epochs'
        "</text>",
    ]


def _level(mark: Mark, frame: _Frame) -> list[str]:
    """A line across the drawing, with its name."""
    y = frame.down(mark.value)
    return [
        f'<line class="mark" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>',
        f'<text class="of-mark" x="{WIDTH - RIGHT}" y="{y + 11}" text-anchor="end">'
        f"{escape(mark.name)} = {mark.value:.2f}</text>",
    ]


def _lines(series: Mapping[str, Points], frame: _Frame) -> list[str]:
    """A line for each run; one of few points has dots."""
    parts = []
    for number, points in enumerate(series.values()):
        kind = f"of-{number % COLOURS}"
        drawn = [(frame.across(x), frame.down(y)) for x, y in points]
        through = " ".join(f"{x},{y}" for x, y in drawn)
        parts.append(f'<polyline class="line {kind}" points="{through}"/>')
        if len(points) <= DOTS:
            parts += [f'<circle class="dot {kind}" cx="{x}" cy="{y}" r="2.2"/>' for x, y in drawn]
    return parts


def ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that enclose a range."""
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / 3))
    step = next(step * factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def _thinned(points: Points) -> Points:
    """At most MOST points, means of as many neighbours each; the last is that of the end."""
    if len(points) <= MOST:
        return points
    each = -(-len(points) // MOST)
    groups = [points[i : i + each] for i in range(0, len(points), each)]
    means = [(g[-1][0], math.fsum(y for _, y in g) / len(g)) for g in groups]
    return [*means[:-1], points[-1]]
