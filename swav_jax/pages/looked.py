"""What a report shows of images: their clusters, a map, neighbours, near-duplicates, outliers."""

import dataclasses
import os.path
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from swav_jax.evals.agreement import agreement
from swav_jax.evals.curation import Duplicates, duplicates_and_outliers
from swav_jax.evals.knn import others
from swav_jax.evals.labelled import Images
from swav_jax.pages.gallery import chosen, summaries
from swav_jax.pages.map import MOST, embedded
from swav_jax.pages.page import Section, choice
from swav_jax.pages.thumbnails import COLUMNS, sheets, thumbnails

NEAR = 16  # neighbours of an image
GROUPS = 24  # of near-duplicates that are shown
OUTLIERS = 24  # that are shown
LISTED = 40  # empty clusters that need no unfolding


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


def show(
    looked: Looked, neighbours: int, duplicate_threshold: float
) -> tuple[list[Section], dict[str, Any]]:
    """The sections of a page about images, and what its script reads.

    Args:
      looked: the images. The page has at most a few thousand of them: those of the map, drawn at
        random, and the best of each cluster.
      neighbours: of an image, by which duplicates and outliers are found.
      duplicate_threshold: cosine similarity of whitened features from which images are
        near-duplicates.
    """
    source, size = looked.images.source, len(looked.clusters)
    sample = np.random.default_rng(0).permutation(size)[:MOST]
    shown = chosen(looked.clusters, looked.scores, looked.total, [sample])
    features, labels = looked.features[shown], source.labels
    cosines, near = others(features, NEAR)
    pictures = thumbnails(_part(looked.images, shown))
    data: dict[str, Any] = {
        "images": {
            "side": pictures.shape[1],
            "columns": COLUMNS,
            "sheets": sheets(pictures),
            "names": _without_folder([looked.names[i] for i in shown]),
            "labels": None if labels is None else labels[shown].tolist(),
            "classes": list(source.class_names),
            "clusters": looked.clusters[shown].tolist(),
            "neighbours": near.tolist(),
            "similarities": [[round(float(x), 3) for x in row] for row in cosines],
        },
        "clusters": summaries(looked.clusters, looked.scores, looked.total, labels, shown),
    }
    places = np.flatnonzero(np.isin(shown, sample))
    points = embedded(features[places])
    if points is not None:
        x, y = points.round(4).T.tolist()
        data["map"] = {"images": places.tolist(), "x": x, "y": y}
    alike, far = duplicates_and_outliers(features, neighbours, duplicate_threshold)
    sections = [
        _clusters(looked, data["clusters"]),
        _map(looked, len(places) if "map" in data else 0),
        _neighbours(len(shown)),
        _odd(alike, far.number[:OUTLIERS].tolist(), neighbours, duplicate_threshold),
    ]
    return sections, data


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


def _clusters(looked: Looked, clusters: Sequence[Mapping[str, Any]]) -> Section:
    said = f"Each shows the images that fit it best ({looked.how})."
    orders = {"size": "Largest first", "purity": "Purest first", "tightness": "Tightest first"}
    labels = looked.images.source.labels
    if labels is None:
        del orders["purity"]
    else:
        found = agreement(labels, looked.clusters)
        said += (
            " The bar is the share of its commonest classes. Clusters and labels: purity "
            f"{found['purity']:.3g} %, NMI {found['nmi']:.2f}, AMI {found['ami']:.2f}."
        )
    return Section(
        "clusters",
        "Clusters",
        f'<p class="lead">{escape(said)}</p>'
        f'<div class="bar">{choice("gallery-order", "Order of the clusters", orders)}</div>'
        '<div class="cards" id="gallery"></div>'
        '<div class="bar"><button class="quiet" type="button" id="more-clusters"></button></div>'
        f'<div class="small muted">{_empty(clusters)}</div>',
    )


def _empty(clusters: Sequence[Mapping[str, Any]]) -> str:
    """The clusters without an image."""
    empty = [str(cluster["number"]) for cluster in clusters if not cluster["size"]]
    listed = ", ".join(empty)
    if len(empty) > LISTED:
        return f"<details><summary>{len(empty)} are empty</summary>{listed}</details>"
    return f"Empty: {listed}." if empty else "No cluster is empty."


def _map(looked: Looked, drawn: int) -> Section:
    if not drawn:
        said = "<p>There are too few images to draw, or their features are all equal.</p>"
        return Section("map", "Map", said)
    size = len(looked.clusters)
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
        '</button><button type="button" id="zoom-in" aria-label="Zoom in">+</button></div></div>'
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


def _odd(alike: Duplicates, far: list[int], neighbours: int, threshold: float) -> Section:
    numbers = range(1 + alike.group.max())
    groups = [np.flatnonzero(alike.group == number) for number in numbers]
    groups.sort(key=lambda group: -alike.similarity[group].mean())
    strips = "".join(
        f'<div class="alike" data-images="{group.tolist()}"></div>' for group in groups[:GROUPS]
    )
    more = f", the {GROUPS} most alike of them here" if len(groups) > GROUPS else ""
    found = f"{len(groups):,} group{'' if len(groups) == 1 else 's'}{more}" if groups else "none"
    return Section(
        "odd",
        "Duplicates and outliers",
        f'<p class="lead">Among the {len(alike.group):,} images of this page; '
        "<code>--task=curate</code> looks at all in the same way, and writes lists. Nothing is "
        "deleted.</p>"
        f"<h3>Near-duplicates: {found}</h3>"
        f'<p class="small muted">Cosine similarity of whitened features from {threshold:g}, '
        f"directly or by others of the group.{_too_low(alike)}</p>"
        f'<div class="groups">{strips}</div>'
        "<h3>Outliers</h3>"
        f'<p class="small muted">Least like their {neighbours} nearest neighbours by whitened '
        f'features, the farthest first.</p><div data-images="{far}"></div>',
    )


def _too_low(alike: Duplicates) -> str:
    """A warning where a threshold makes one group of different images."""
    if not alike.chained:
        return ""
    return (
        f" <b>One group has {alike.chained:,} images: to this network different images are more "
        "alike than that. A higher <code>--config.eval.duplicate_threshold</code> finds fewer.</b>"
    )
