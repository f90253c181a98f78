"""What a report says of the training: curves, crops, the doctor's findings, the settings."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

from ml_collections import ConfigDict
from PIL import Image

from swav_jax.config import defaults, to_dict
from swav_jax.pages.curves import TITLES, curve, marks, metric_curves
from swav_jax.pages.page import Section
from swav_jax.pages.tables import checks, findings, settings_list
from swav_jax.runtime.storage import AnyPath
from swav_jax.workdir import CROPS, SUMMARY

CROPS_WIDTH = 1200  # pixels of the picture of crops at most


def training(
    config: ConfigDict,
    workdir: AnyPath,
    lines: Sequence[Mapping[str, Any]],
    results: Mapping[str, Any],
) -> Section:
    """The curves of a run, and the crops that it began with.

    Args:
      config: of the run.
      workdir: of the run.
      lines: of its `metrics.jsonl`.
      results: its `results.json`.
    """
    levels = marks(lines, config.model.prototypes)
    drawn = [
        curve(TITLES[name], {"": points}, levels.get(name))
        for name, points in metric_curves(lines, results).items()
    ]
    html = f'<div class="curves">{"".join(drawn)}</div>' if drawn else ""
    if (workdir / CROPS).exists():
        html += (
            "<h3>Crops of some images, as the network sees them</h3>"
            f'<div class="wide"><img class="crops" alt="A row of crops for each image" '
            f'src="{_picture(workdir / CROPS)}"></div>'
        )
    return Section("training", "Training", html)


def _picture(path: AnyPath) -> str:
    """The upper half of a picture, as an address that holds all of it."""
    with Image.open(BytesIO(path.read_bytes())) as whole:
        image = whole.convert("RGB").crop((0, 0, whole.width, whole.height // 2))
        image.thumbnail((CROPS_WIDTH, image.height))
        file = BytesIO()
        image.save(file, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def doctor(said: str) -> Section:
    """What the doctor looked for; its findings stand where the page begins.

    Args:
      said: the text of `doctor.md`, empty if there is none.
    """
    if not said:
        return Section("doctor", "Doctor", "")
    title, _, _ = said.partition("\n")
    found = "" if findings(said) else "Nothing was found. "
    return Section(
        "doctor",
        "Doctor",
        f'<p class="lead">{found}{escape(title.lstrip("# "))}.</p>'
        f"<details><summary>What should hold</summary>{checks(said)}</details>",
    )


def settings(config: ConfigDict, workdir: AnyPath) -> Section:
    """The sizes of a run, and its settings."""
    usual = to_dict(defaults(config.method.name))
    path = workdir / SUMMARY  # runs of earlier versions have none
    summary = f"<pre>{escape(path.read_text())}</pre>" if path.exists() else ""
    return Section(
        "settings",
        "Settings",
        f'{summary}<p class="lead">Those that differ from the defaults of the method.</p>'
        f"{settings_list(to_dict(config), usual)}",
    )
