"""What is written in a workdir, as HTML: figures, findings, settings."""

from collections.abc import Mapping, Sequence
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
NAMES = {
    "top1": "top-1 accuracy, %",
    "top5": "top-5 accuracy, %",
    "map": "mean average precision, %",
    "rankme": "effective rank (RankMe)",
    "alpha": "decay of the spectrum (alpha)",
    "nmi": "NMI with labels",
    "ami": "AMI with labels",
}
NOT_FIGURES = ("doctor", "earlier")  # entries of `results.json`
NOT_MEASURED = {"cost", "penalty", "median"}  # words in names of floats that were chosen or counted


def evaluations(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The figures of each task in `results.json`."""
    return {
        task: figures
        for task, figures in results.items()
        if task not in NOT_FIGURES and isinstance(figures, Mapping) and measures(figures)
    }


def title_of(task: str) -> str:
    """A task as people call it."""
    return TASKS.get(task, task.replace("_", " "))


def name_of(figure: str) -> str:
    """A figure as people call it."""
    return NAMES.get(figure, figure.replace("_", " ").replace("top1", "top-1"))


def measures(figures: Mapping[str, Any]) -> dict[str, float]:
    """What a task measured of the trained network: all floats but those of NOT_MEASURED.

    Counts are whole numbers.
    """
    return {
        name: value
        for name, value in figures.items()
        if isinstance(value, float)
        and not name.startswith(AT_RANDOM)
        and not NOT_MEASURED & {*name.split("_")}
    }


def shown(value: float) -> str:
    """A figure with four digits."""
    return f"{value:.4g}"


def results_table(
    results: Mapping[str, Any], published: Mapping[tuple[str, str], Published]
) -> str:
    """The figures of all tasks, those of the random network and published ones beside them."""
    tasks = evaluations(results)
    if not tasks:
        return (
            '<p class="muted">No evaluation was made in this workdir yet: '
            "<code>main.py --task=knn</code> makes one, if there are labels.</p>"
        )
    before = any(name.startswith(AT_RANDOM) for figures in tasks.values() for name in figures)
    columns = ["Trained"] + ["Before training"] * before + ["Published"] * bool(published)
    body = ""
    for task, figures in tasks.items():
        note = f'<div class="small muted">{escape(_how(figures))}</div>'
        body += f'<tr class="group"><th colspan="{1 + len(columns)}" scope="rowgroup">'
        body += f"{escape(title_of(task))}{note}</th></tr>"
        for name, value in measures(figures).items():
            cells = [shown(value)]
            if before:
                at_random = figures.get(f"{AT_RANDOM}{name}")
                cells.append("" if at_random is None else shown(at_random))
            if published:
                known = published.get((task, name))
                cells.append(escape(f"{known.value:.1f} ({known.of})") if known else "")
            numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
            body += f'<tr><th scope="row">{escape(name_of(name))}</th>{numbers}</tr>'
    head = "".join(f'<th class="number" scope="col">{name}</th>' for name in columns)
    return (
        f'<div class="wide"><table><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _how(figures: Mapping[str, Any]) -> str:
    """How a task measured: its protocol, its images, its counts."""
    said = [str(value) for name, value in figures.items() if name.endswith("protocol")]
    said += [f"{part}: {images}" for part, images in figures.get("images", {}).items()]
    if "images" not in figures:  # an evaluation while it trained
        said += [
            f"{name.replace('_', ' ')} {value:,}"
            for name, value in figures.items()
            if isinstance(value, int)
        ]
    return "; ".join(said)


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


def settings_list(chosen: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """The settings that are not the defaults of their method, and all of them folded up."""
    flat, default = flatten_dict(chosen, sep="."), flatten_dict(usual, sep=".")
    changed = {key: value for key, value in flat.items() if default.get(key) != value}
    return (
        _settings(changed)
        + f"<details><summary>All {len(flat)} settings</summary>{_settings(flat)}</details>"
    )


def _settings(settings: Mapping[str, Any]) -> str:
    rows = [
        f"<div><dt><code>{escape(key)}</code></dt><dd><code>{escape(str(value))}</code></dd></div>"
        for key, value in sorted(settings.items())
    ]
    return f'<dl class="settings">{"".join(rows)}</dl>'


def seconds_of(lines: Sequence[Mapping[str, float]], batch_size: int) -> float:
    """How long the steps took, from their throughput; without compilation and evaluation."""
    seconds, done = 0.0, 0.0
    for line in lines:
        if line.get("images_per_second"):
            seconds += (line["step"] - done) * batch_size / line["images_per_second"]
        if "loss" in line:
            done = line["step"]
    return seconds
