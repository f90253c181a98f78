"""Several runs beside each other: their figures, their curves, the settings that differ."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from swav_jax.config import to_dict
from swav_jax.pages.curves import COLOURS, TITLES, curve, marks, metric_curves
from swav_jax.pages.page import Section, page
from swav_jax.pages.tables import evaluations, measures, name_of, shown, title_of
from swav_jax.workdir import AT_RANDOM

# Figures of which more is better, by what their names contain; but for deviations.
MORE_IS_BETTER = ("top1", "top5", "map", "precision", "recall", "low_shot", "nmi", "ami", "purity")
DEVIATION = "_std"


class Compared(NamedTuple):
    """A run as it is compared with others.

    Attributes:
      name: of the run, other for each.
      config: its settings.
      lines: of its `metrics.jsonl`.
      results: its `results.json`.
    """

    name: str
    config: ConfigDict
    lines: list[dict[str, Any]]
    results: Mapping[str, Any]


def compare(runs: Sequence[Compared]) -> bytes:
    """The page of several runs."""
    legend = "".join(
        f'<li><i class="of-{i % COLOURS}"></i>{escape(run.name)}</li>' for i, run in enumerate(runs)
    )
    head = f'<h1>{len(runs)} runs</h1><ul class="runs">{legend}</ul>'
    sections = [
        Section("figures", "Evaluation", _figures(runs)),
        Section("training", "Training", _curves(runs)),
        Section("settings", "Settings that differ", _settings(runs)),
    ]
    return page(", ".join(run.name for run in runs), head, [s for s in sections if s.html])


def figures_of(runs: Sequence[Compared]) -> dict[tuple[str, str], list[float | None]]:
    """What was measured, by (task, figure): a value for each run, None where a run lacks it."""
    measured = [
        {
            (task, name): value
            for task, figures in evaluations(run.results).items()
            for name, value in measures(figures).items()
        }
        for run in runs
    ]
    keys = dict.fromkeys(key for one in measured for key in one)  # in the runs' order
    return {key: [one.get(key) for one in measured] for key in keys}


def text_table(runs: Sequence[Compared]) -> list[tuple[str, ...]]:
    """The figures as rows of text, the first of them the names of the runs."""
    return [
        ("", *(run.name for run in runs)),
        *(
            (f"{task} {name}", *("" if value is None else shown(value) for value in values))
            for (task, name), values in figures_of(runs).items()
        ),
    ]


def _figures(runs: Sequence[Compared]) -> str:
    body, before = "", ""
    for (task, name), values in figures_of(runs).items():
        if task != before:
            before = task
            body += f'<tr class="group"><th colspan="{1 + len(runs)}" scope="rowgroup">'
            body += f"{escape(title_of(task))}{_differences(task, runs)}</th></tr>"
        best = _best(name, [value for value in values if value is not None])
        cells = "".join(_cell(task, name, *pair, best) for pair in zip(runs, values, strict=True))
        body += f'<tr><th scope="row">{escape(name_of(name))}</th>{cells}</tr>'
    if not body:
        return '<p class="muted">None of the runs has been evaluated.</p>'
    return f"{_table(runs, body)}<p class='small muted'>In brackets: before training.</p>"


def _best(name: str, values: Sequence[float]) -> float | None:
    """The best of several values of a figure, where it is known which is."""
    is_known = any(part in name for part in MORE_IS_BETTER) and not name.endswith(DEVIATION)
    return max(values) if is_known and len(values) > 1 else None


def _cell(task: str, name: str, run: Compared, value: float | None, best: float | None) -> str:
    if value is None:
        return '<td class="number"></td>'
    at_random = run.results[task].get(f"{AT_RANDOM}{name}")
    before = "" if at_random is None else f' <span class="muted">({shown(at_random)})</span>'
    kind = "number best" if value == best else "number"
    return f'<td class="{kind}">{shown(value)}{before}</td>'


def _differences(task: str, runs: Sequence[Compared]) -> str:
    """A warning where a task's figures are of other images or by another protocol."""
    tasks = [run.results[task] for run in runs if task in run.results]
    ways = [
        {key: one[key] for key in one if key == "images" or key.endswith("protocol")}
        for one in tasks
    ]
    if all(way == ways[0] for way in ways):
        return ""
    return '<div class="small muted">Not all by the same protocol and on the same images.</div>'


def _table(runs: Sequence[Compared], body: str) -> str:
    head = "".join(f'<th class="number" scope="col">{escape(run.name)}</th>' for run in runs)
    return (
        f'<div class="wide"><table class="runs"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _curves(runs: Sequence[Compared]) -> str:
    curves = [metric_curves(run.lines, run.results) for run in runs]
    levels = [marks(run.lines, run.config.model.prototypes) for run in runs]
    drawn = []
    for name, title in TITLES.items():
        series = {run.name: found.get(name, []) for run, found in zip(runs, curves, strict=True)}
        if not any(series.values()):
            continue
        same = levels[0].get(name) if all(level == levels[0] for level in levels) else None
        drawn.append(curve(title, series, same))
    return f'<div class="curves">{"".join(drawn)}</div>' if drawn else ""


def _settings(runs: Sequence[Compared]) -> str:
    flat = [flatten_dict(to_dict(run.config), sep=".") for run in runs]
    keys = sorted({key for one in flat for key in one})
    body = ""
    for key in keys:
        values = [one.get(key, "") for one in flat]
        if any(value != values[0] for value in values):
            texts = (escape(str(value)) for value in values)
            cells = "".join(f'<td class="number"><code>{text}</code></td>' for text in texts)
            body += f'<tr><th scope="row"><code>{escape(key)}</code></th>{cells}</tr>'
    return _table(runs, body) if body else '<p class="muted">None.</p>'
