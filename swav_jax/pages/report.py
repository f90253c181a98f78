"""The report of a run: its clusters, a map of its embeddings, its figures, its training."""

import base64
import dataclasses
import os.path
from collections.abc import Mapping, Sequence
from datetime import timedelta
from html import escape
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict
from PIL import Image

from swav_jax.config import defaults, to_dict
from swav_jax.evals.agreement import agreement
from swav_jax.evals.knn import neighbours
from swav_jax.evals.labelled import Images
from swav_jax.pages import gallery
from swav_jax.pages.curves import TITLES, curve, marks, metric_curves
from swav_jax.pages.map import MOST, embedded
from swav_jax.pages.page import Section, choice, facts, page
from swav_jax.pages.published import published
from swav_jax.pages.tables import (
    checks,
    evaluations,
    findings,
    measures,
    name_of,
    results_table,
    seconds_of,
    settings_list,
    shown,
    title_of,
)
from swav_jax.pages.thumbnails import COLUMNS, sheets, thumbnails
from swav_jax.runtime.storage import AnyPath
from swav_jax.workdir import AT_RANDOM, CROPS, DOCTOR, read_metrics, read_results

NEAR = 16  # neighbours of an image
CROPS_WIDTH = 1200  # pixels of the picture of crops at most


class Looked(NamedTuple):
    """What is looked at: N images that could be read.

    Attributes:
      images: them.
      names: the file or record of each.
      features: of them.
      clusters: of each image.
      scores: how well each fits its cluster; larger is better.
      total: K, clusters with the empty ones.
      how: the images came to their clusters, in a line.
      unreadable: how many images could not be read.
    """

    images: Images
    names: Sequence[str]
    features: Float[np.ndarray, "N F"]
    clusters: Int[np.ndarray, "N"]
    scores: Float[np.ndarray, "N"]
    total: int
    how: str
    unreadable: int


def report(config: ConfigDict, workdir: AnyPath, looked: Looked) -> bytes:
    """The page of a run.

    Args:
      config: of the run.
      workdir: of the run, for what was written while it trained.
      looked: images of it.
    """
    lines, results = read_metrics(workdir), read_results(workdir)
    doctor = workdir / DOCTOR
    said = doctor.read_text() if doctor.exists() else ""
    in_page, data = _images(looked)
    sections = [
        _clusters(looked, data),
        _map(looked, data),
        _neighbours(len(in_page)),
        Section("figures", "Evaluation", results_table(results, published(config))),
        _training(config, workdir, lines, results),
        _doctor(said),
        Section("settings", "Settings", _settings(config)),
    ]
    head = _head(config, workdir, looked, lines, results, said)
    return page(_name(workdir), head, [s for s in sections if s.html], data)


def _name(workdir: AnyPath) -> str:
    return workdir.name or str(workdir)


# ---- what the page begins with ------------------------------------------------------------------
def _head(
    config: ConfigDict,
    workdir: AnyPath,
    looked: Looked,
    lines: list[dict[str, Any]],
    results: Mapping[str, Any],
    doctor: str,
) -> str:
    found = findings(doctor)
    data = config.data
    steps = int(lines[-1]["step"]) if lines else 0
    epochs = f"{lines[-1]['epoch']:.3g} epochs, {steps:,} steps" if lines else "no steps"
    seconds = seconds_of(lines, data.batch_size)
    took = f" in {timedelta(seconds=round(seconds))}" if seconds else ""
    what = (
        f"{config.method.name}, {config.model.arch}, trained on {data.name}"
        f"{f' {data.data_dir}' if data.data_dir else ''}: {epochs} of {data.batch_size:,} images"
        f"{took}"
    )
    used = len(np.unique(looked.clusters))
    rows = [
        (
            "Images looked at",
            f"{len(looked.clusters):,}",
            f"{looked.unreadable:,} unreadable" if looked.unreadable else "all readable",
        ),
        ("Clusters in use", f"{used:,} of {looked.total:,}", looked.how),
    ]
    for task, figures in [*evaluations(results).items()][:2]:
        name, value = next(iter(measures(figures).items()))
        before = figures.get(f"{AT_RANDOM}{name}")
        note = "" if before is None else f"{shown(before)} before training"
        rows.append((f"{title_of(task)}, {name_of(name)}", shown(value), note))
    losses = [line["loss"] for line in lines if "loss" in line]
    if losses:
        mark = marks(lines, config.model.prototypes).get("loss")
        note = f"{mark.name} = {mark.value:.2f}, knowing nothing" if mark else ""
        rows.append(("Loss at the end", f"{losses[-1]:.3g}", note))
    if doctor:
        text = f"{len(found)} finding{'s' if len(found) > 1 else ''}" if found else "Nothing found"
        rows.append(("Doctor", text, "see below" if found else ""))
    alerts = "".join(
        f'<div class="finding"><h3>{escape(title)}</h3>{html}</div>' for title, html in found
    )
    return (
        f'<h1>{escape(_name(workdir))}</h1><p class="lead">{escape(what)}.</p>{facts(rows)}{alerts}'
    )


# ---- images -------------------------------------------------------------------------------------
def _images(looked: Looked) -> tuple[Int[np.ndarray, "M"], dict[str, Any]]:
    """Numbers of the images in the page, and what its script reads."""
    source, size = looked.images.source, len(looked.clusters)
    sample = np.random.default_rng(0).permutation(size)[:MOST]
    in_page = gallery.chosen(looked.clusters, looked.scores, looked.total, [sample])
    labels = source.labels
    pictures = thumbnails(_part(looked.images, in_page))
    features = looked.features[in_page]
    cosines, near = (
        np.asarray(a)[:, 1:] for a in neighbours(features, features, min(NEAR + 1, len(in_page)))
    )
    names = [looked.names[i] for i in in_page]
    data: dict[str, Any] = {
        "images": {
            "side": pictures.shape[1],
            "columns": COLUMNS,
            "sheets": sheets(pictures),
            "names": _without_folder(names),
            "labels": None if labels is None else labels[in_page].tolist(),
            "classes": list(source.class_names),
            "clusters": looked.clusters[in_page].tolist(),
            "neighbours": near.tolist(),
            "similarities": [[round(float(x), 3) for x in row] for row in cosines],
        },
        "clusters": gallery.summaries(
            looked.clusters, looked.scores, looked.total, labels, in_page
        ),
    }
    places = np.flatnonzero(np.isin(in_page, sample))
    points = embedded(looked.features[in_page[places]])
    if points is not None:
        rounded = points.round(4)
        data["map"] = {
            "images": places.tolist(),
            "x": rounded[:, 0].tolist(),
            "y": rounded[:, 1].tolist(),
        }
    return in_page, data


def _part(images: Images, numbers: Int[np.ndarray, "n"]) -> Images:
    source = images.source
    labels = source.labels if source.labels is not None else np.full(source.size, -1, np.int32)
    return dataclasses.replace(
        images, source=source.part(numbers, labels[numbers], source.class_names)
    )


def _without_folder(names: list[str]) -> list[str]:
    """Names of files without the folder that all are in."""
    folder = os.path.commonpath([os.path.dirname(name) for name in names])
    return [os.path.relpath(name, folder) if folder else name for name in names]


def _clusters(looked: Looked, data: Mapping[str, Any]) -> Section:
    empty = [str(c["number"]) for c in data["clusters"] if not c["size"]]
    said = f"Each shows the images that fit it best ({looked.how})."
    labels = looked.images.source.labels
    if labels is not None:
        found = agreement(labels, looked.clusters)
        said += (
            " The bar is the share of its commonest classes. Clusters and labels: purity "
            f"{found['purity']:.3g} %, NMI {found['nmi']:.2f}, AMI {found['ami']:.2f}."
        )
    orders = {"size": "Largest first", "purity": "Purest first", "tightness": "Tightest first"}
    if labels is None:
        del orders["purity"]
    nobody = (
        f'<p class="small muted">Empty: {", ".join(empty)}.</p>'
        if empty
        else '<p class="small muted">No cluster is empty.</p>'
    )
    return Section(
        "clusters",
        "Clusters",
        f'<p class="lead">{escape(said)}</p>'
        f'<div class="bar">{choice("gallery-order", "Order of the clusters", orders)}</div>'
        '<div class="cards" id="gallery"></div>'
        '<div class="bar"><button class="quiet" type="button" id="more-clusters"></button></div>'
        f"{nobody}",
    )


def _map(looked: Looked, data: Mapping[str, Any]) -> Section:
    if "map" not in data:
        return Section(
            "map", "Map", "<p>There are too few images, or their features are equal.</p>"
        )
    drawn, size = len(data["map"]["x"]), len(looked.clusters)
    which = f"{drawn:,} of {size:,} images, drawn at random" if drawn < size else f"{size:,} images"
    colours = {"label": "Labels", "cluster": "Clusters"}
    if looked.images.source.labels is None:
        del colours["label"]
    return Section(
        "map",
        "Map",
        f'<p class="lead">{which}, by t-SNE of their features: neighbours on the map are alike to '
        "the network; distances between groups mean little.</p>"
        f'<div class="bar">{choice("map-colour", "Colours of the map", colours)}'
        f"{choice('map-marks', 'What is drawn', {'dots': 'Dots', 'images': 'Images'})}"
        '<div class="choice"><button type="button" id="zoom-out" aria-label="Zoom out">&minus;'
        "</button>"
        '<button type="button" id="zoom-in" aria-label="Zoom in">+</button></div></div>'
        '<div class="map"><div class="plane"><canvas id="plane" tabindex="0" role="application" '
        'aria-label="Map of the images. Arrow keys go to neighbours, Enter opens an image, plus '
        'and minus zoom."></canvas><div class="hover" id="hover" hidden></div></div>'
        '<ul class="legend" id="legend"></ul></div>'
        '<p class="skip" id="map-said" role="status"></p>',
    )


def _neighbours(count: int) -> Section:
    return Section(
        "neighbours",
        "Neighbours",
        f'<p class="lead">What the network finds most alike, among the {count:,} images of this '
        "page. Choose any image of the page to see its own.</p>"
        '<div class="bar"><button class="quiet" type="button" id="shuffle">Other images</button>'
        '</div><div id="neighbour-rows"></div>',
    )


# ---- the training -------------------------------------------------------------------------------
def _training(
    config: ConfigDict,
    workdir: AnyPath,
    lines: list[dict[str, Any]],
    results: Mapping[str, Any],
) -> Section:
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


def _doctor(said: str) -> Section:
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


def _settings(config: ConfigDict) -> str:
    usual = to_dict(defaults(config.method.name))
    return '<p class="lead">Those that differ from the defaults of the method.</p>' + settings_list(
        to_dict(config), usual
    )
