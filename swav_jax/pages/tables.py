"""What is written in a workdir, as HTML: figures, findings, settings."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from flax.traverse_util import flatten_dict

from swav_jax.pages.published import Published
from swav_jax.workdir import AT_RANDOM

TASKS = {
    "knn": "k-NN",
    "classify": "Classification",
    "linear": "Linear classification",
    "semisup": "Few labels",
    "finetune": "Fine-tuning",
    "svm": "Linear SVM",
    "retrieval": "Retrieval",
    "cluster": "Clusters",
    "quality": "Quality without labels",
}
NOT_FIGURES = ("doctor", "earlier")  # entries of `results.json`


def evaluations(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The figures of each task in `results.json`."""
    return {
        task: figures
        for task, figures in results.items()
        if task not in NOT_FIGURES and isinstance(figures, Mapping)
    }


def title_of(task: str) -> str:
    """A task as people call it."""
    return TASKS.get(task, task.replace("_", " "))


def figures_of(figures: Mapping[str, Any]) -> dict[str, Any]:
    """A task's figures of the trained network: no texts, and none of the random network."""
    return {
        name: value
        for name, value in figures.items()
        if isinstance(value, int | float) and not name.startswith(AT_RANDOM)
    }


def shown(value: Any) -> str:
    """A figure, with four digits; whole numbers in full."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def results_table(
    results: Mapping[str, Any], published: Mapping[tuple[str, str], Published]
) -> str:
    """The figures of all tasks, those of the random network and published ones beside them."""
    rows = [row for task, figures in evaluations(results).items() for row in _rows(task, figures)]
    if not rows:
        return (
            '<p class="muted">No evaluation was made in this workdir yet: '
            "<code>main.py --task=knn</code> makes one, if there are labels.</p>"
        )
    before = any(f"{AT_RANDOM}" in name for f in evaluations(results).values() for name in f)
    columns = ["Trained", *(["Before training"] if before else [])]
    columns += ["Published"] if published else []
    head = "".join(f'<th class="number" scope="col">{name}</th>' for name in columns)
    body = ""
    for task, name, value, at_random in rows:
        if not name:
            body += f'<tr class="group"><th colspan="{1 + len(columns)}" scope="rowgroup">'
            body += f"{escape(title_of(task))}{value}</th></tr>"
            continue
        cells = [shown(value), *([at_random] if before else [])]
        if published:
            number = published.get((task, name))
            cells.append(f"{number.value:.1f} ({escape(number.of)})" if number else "")
        body += f"<tr><td>{escape(name.replace('_', ' '))}</td>"
        body += "".join(f'<td class="number">{cell}</td>' for cell in cells) + "</tr>"
    return (
        f'<div class="wide"><table><thead><tr><th scope="col"></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _rows(task: str, figures: Mapping[str, Any]) -> Iterator[tuple[str, str, Any, str]]:
    """(task, name, value, the same before training); the first has no name, and says how."""
    found = figures_of(figures)
    if not found:
        return
    of = figures.get("images", {})
    notes = [str(value) for name, value in figures.items() if name.endswith("protocol")]
    notes += [f"{part}: {images}" for part, images in of.items()] if of else []
    said = f'<div class="small muted">{escape("; ".join(notes))}</div>' if notes else ""
    yield task, "", said, ""
    for name, value in found.items():
        before = figures.get(f"{AT_RANDOM}{name}")
        yield task, name, value, "" if before is None else shown(before)


def findings(doctor: str) -> list[tuple[str, str]]:
    """The doctor's findings, as (title, HTML), from the text of `doctor.md`."""
    parts = doctor.split("\n## ")[1:]
    return [
        (title, markdown(text))
        for title, _, text in (part.partition("\n") for part in parts)
        if title != "Checks"
    ]


def checks(doctor: str) -> str:
    """What the doctor looked for, from the text of `doctor.md`."""
    return markdown(doctor.partition("## Checks\n")[2] or doctor.partition("\n")[2])


def markdown(text: str) -> str:
    """The little Markdown that `doctor.md` is written in: paragraphs and lists."""
    html = ""
    for block in filter(None, text.strip().split("\n\n")):
        if block.startswith("- "):
            items = [f"<li>{escape(item[2:])}</li>" for item in block.split("\n")]
            html += f"<ul>{''.join(items)}</ul>"
        else:
            html += f"<p>{escape(block)}</p>"
    return html


def settings_table(chosen: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """The settings that are not the defaults of their method, and all of them folded up."""
    flat, default = flatten_dict(chosen, sep="."), flatten_dict(usual, sep=".")
    changed = {key: value for key, value in flat.items() if default.get(key) != value}
    return (
        _settings(changed)
        + f"<details><summary>All {len(flat)} settings</summary>{_settings(flat)}</details>"
    )


def _settings(settings: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{escape(key)}</code></td><td><code>{escape(str(value))}</code></td></tr>"
        for key, value in sorted(settings.items())
    ]
    return f'<div class="wide"><table><tbody>{"".join(rows)}</tbody></table></div>'


def seconds_of(lines: Sequence[Mapping[str, float]], batch_size: int) -> float:
    """How long the steps took, from their throughput; without compilation and evaluation."""
    seconds, done = 0.0, 0.0
    for line in lines:
        if line.get("images_per_second"):
            seconds += (line["step"] - done) * batch_size / line["images_per_second"]
        if "loss" in line:
            done = line["step"]
    return seconds
