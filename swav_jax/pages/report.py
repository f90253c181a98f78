"""The report of a run: its images as the network sees them, its figures, its training."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from html import escape
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from swav_jax.pages.curves import marks
from swav_jax.pages.looked import Looked, show
from swav_jax.pages.page import Section, facts, page
from swav_jax.pages.published import published
from swav_jax.pages.tables import (
    evaluations,
    findings,
    measures,
    name_of,
    results_table,
    seconds_of,
    shown,
    title_of,
)
from swav_jax.pages.training import doctor, settings, training
from swav_jax.runtime.storage import AnyPath
from swav_jax.workdir import AT_RANDOM, DOCTOR, read_metrics, read_results

HEADLINES = 2  # evaluations whose first figures stand at the top


def report(config: ConfigDict, workdir: AnyPath, looked: Looked) -> bytes:
    """The page of a run.

    Args:
      config: of the run.
      workdir: of the run, for what was written while it trained.
      looked: images.
    """
    lines, results = read_metrics(workdir), read_results(workdir)
    said = (workdir / DOCTOR).read_text() if (workdir / DOCTOR).exists() else ""
    found = findings(said)
    of_images, data = show(looked, config.eval.neighbours, config.eval.duplicate_threshold)
    sections = [
        *of_images,
        Section("figures", "Evaluation", results_table(results, published(config, results))),
        training(config, workdir, lines, results),
        doctor(said),
        settings(config, workdir),
    ]
    name = workdir.name or str(workdir)
    rows = [*_of_images(looked), *_of_training(config, lines, results)]
    if said:
        text = f"{len(found)} finding{'s' if len(found) > 1 else ''}" if found else "Nothing found"
        rows.append(("Doctor", text, "see below" if found else ""))
    alerts = "".join(
        f'<div class="finding"><h3>{escape(title)}</h3>{html}</div>' for title, html in found
    )
    head = (
        f'<h1>{escape(name)}</h1><p class="lead">{escape(_what(config, lines))}</p>'
        f"{facts(rows)}{alerts}"
    )
    return page(name, head, [section for section in sections if section.html], data)


def _what(config: ConfigDict, lines: Sequence[Mapping[str, Any]]) -> str:
    """What the run is, in a sentence."""
    data = config.data
    said = f"{config.method.name}, {config.model.arch}, trained on {data.name} {data.data_dir}"
    if not lines:
        return f"{said.strip()}."
    steps, seconds = int(lines[-1]["step"]), seconds_of(lines, data.batch_size)
    took = f"; the steps alone took {timedelta(seconds=round(seconds))}" if seconds else ""
    return (
        f"{said.strip()}: {lines[-1]['epoch']:.3g} epochs, {steps:,} steps of "
        f"{data.batch_size:,} images{took}."
    )


def _of_images(looked: Looked) -> list[tuple[str, str, str]]:
    count, used = len(looked.clusters), len(np.unique(looked.clusters))
    bad = f"{looked.unreadable:,} unreadable" if looked.unreadable else "all readable"
    return [
        ("Images looked at", f"{count:,}", bad),
        ("Clusters in use", f"{used:,} of {looked.total:,}", looked.how),
    ]


def _of_training(
    config: ConfigDict, lines: Sequence[Mapping[str, Any]], results: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    rows = []
    for task, figures in [*evaluations(results).items()][:HEADLINES]:
        name, value = next(iter(measures(figures).items()))
        before = figures.get(f"{AT_RANDOM}{name}")
        note = "" if before is None else f"{shown(before)} before training"
        rows.append((f"{title_of(task)}, {name_of(name)}", shown(value), note))
    losses = [line["loss"] for line in lines if "loss" in line]
    if losses:
        mark = marks(lines, config.model.prototypes).get("loss")
        note = f"{mark.name} = {mark.value:.2f}, knowing nothing" if mark else ""
        rows.append(("Loss at the end", f"{losses[-1]:.3g}", note))
    return rows
