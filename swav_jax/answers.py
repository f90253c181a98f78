"""What a trained network says of images, as tables: their embeddings, and their clusters.

A row is an image that can be read; the others are left out and named. Tables call an image by its
file or record in `paths` or `path`.
"""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float32, Int, Int32
from ml_collections import ConfigDict

from swav_jax.checkpoints.read import load_variables
from swav_jax.config import ConfigError, in_steps
from swav_jax.data.sources.source import DataError, Source
from swav_jax.data.unreadable import were_read
from swav_jax.evals.agreement import agreement
from swav_jax.evals.clusters import Clusters, assign, assign_by_kmeans, assign_evenly
from swav_jax.evals.features import AVERAGED, STAGES, one_vector
from swav_jax.evals.labelled import Images
from swav_jax.features import features
from swav_jax.methods.contract import Prototypes
from swav_jax.run import make_method
from swav_jax.runtime.processes import warn
from swav_jax.tables import Table
from swav_jax.trained import Trained, at_random

TEMPERATURE = 0.1  # of the entropy, where the method has none
SINKHORN_ITERATIONS = 30  # over all images; the few of training leave large clusters larger


class Rows(NamedTuple):
    """What a network gives for n of N images, those that could be read.

    Attributes:
      source: of the N images.
      numbers: of the n images.
      features: of the n images.
    """

    source: Source
    numbers: Int[np.ndarray, "n"]
    features: Float32[np.ndarray, "n *F"]

    @property
    def names(self) -> np.ndarray:
        """Text [n], the file or record of each."""
        return np.array([self.source.name(i) for i in self.numbers])

    @property
    def labels(self) -> Int32[np.ndarray, "n"] | None:
        """The classes, -1 for none; None if no image has one."""
        labels = self.source.labels
        return None if labels is None else labels[self.numbers]


def read_rows(trained: Trained, images: Images, layer: str) -> Rows:
    """A layer's features of the images that can be read; the others are named in the log.

    Args:
      trained: the network, in whose workdir the features are kept.
      images: N of them.
      layer: as `features` takes it.

    Raises:
      ConfigError: the network has no such layer.
      DataError: no image can be read.
    """
    _check_layer(trained, images, layer)
    found, source = features(trained, images, layer), images.source
    if bad := sorted(source.unreadable):
        some = ", ".join(f"{source.describe(i)} ({source.explain(i)})" for i in bad[:20])
        what = f"{len(bad)} of {source.size} images cannot be read"
        what += f": {some}{', ...' * (len(bad) > 20)}"
        if len(bad) == source.size:
            raise DataError(what)
        warn(f"left out: {what}")
        numbers = np.delete(np.arange(source.size), bad)
        return Rows(source, numbers, found[numbers])
    return Rows(source, np.arange(source.size), found)


def _check_layer(trained: Trained, images: Images, layer: str) -> None:
    if layer == "embedding" and "head" not in trained.variables["params"]:
        raise ConfigError(
            f"eval.layer is embedding, but the network in {trained.workdir} has no projection "
            "head: use pooled"
        )
    stage = layer.removesuffix(AVERAGED)
    if stage not in STAGES:
        return
    size = images.crop or images.resize or max(crop[1] for crop in trained.config.data.crops)
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    apply = partial(trained.encoder.apply, method="stages")
    stages = jax.eval_shape(apply, trained.variables, image)
    if stage not in stages:
        raise ConfigError(
            f"eval.layer is {stage}, but {trained.config.model.arch} has {', '.join(stages)}"
        )


def embeddings(rows: Rows) -> Table:
    """A table of `paths` and `embeddings`, and of `labels` (-1: none) and `classes` if there are.

    Args:
      rows: of any layer.
    """
    columns = {"paths": rows.names, "embeddings": rows.features}
    if rows.labels is not None:
        columns |= {"labels": rows.labels, "classes": _classes(rows)}
    return Table(columns)


def _classes(rows: Rows) -> np.ndarray:
    """The name of each image's class, "" for none."""
    return np.array([*rows.source.class_names, ""])[rows.labels]


class Found(NamedTuple):
    """Clusterings of n images.

    Attributes:
      rows: the images, with the features that were clustered.
      clusterings: one for each head or level of the method; one of k-means.
      sizes: K of each.
      how: the images came to their clusters, in a line.
    """

    rows: Rows
    clusterings: list[Clusters]
    sizes: list[int]
    how: str

    def table(self) -> Table:
        """`path,cluster,score,second_cluster,entropy,rank`; further clusterings' names end in _1.

        `evals.clusters.Clusters` says what they are.
        """
        columns = {"path": self.rows.names}
        for number, clusters in enumerate(self.clusterings):
            end = f"_{number}" if number else ""
            columns |= {f"{name}{end}": values for name, values in clusters._asdict().items()}
        return Table(columns)

    def members(self) -> Table:
        """`cluster,images` of the first clustering, empty clusters too.

        With labels also `labelled`, `purity` in percent and `class`, the most common one.
        """
        cluster, size = self.clusterings[0].cluster, self.sizes[0]
        columns = {"cluster": np.arange(size), "images": np.bincount(cluster, minlength=size)}
        labels = self.rows.labels
        if labels is not None:
            names, known = self.rows.source.class_names, labels >= 0
            counts = np.zeros((size, len(names)), np.int64)
            np.add.at(counts, (cluster[known], labels[known]), 1)
            labelled, most = counts.sum(axis=1), counts.max(axis=1)
            purity = 100 * most / np.maximum(labelled, 1)
            common = np.where(labelled > 0, np.array(names)[counts.argmax(axis=1)], "")
            columns |= {"labelled": labelled, "purity": purity, "class": common}
        return Table(columns)

    def figures(self) -> dict[str, float | int]:
        """How large the clusters are, and with labels how well they agree with these."""
        labels, figures = self.rows.labels, dict[str, float | int]()
        for number, (clusters, size) in enumerate(zip(self.clusterings, self.sizes, strict=True)):
            counts = np.bincount(clusters.cluster, minlength=size)
            of_this = dict[str, float | int]()
            if labels is not None:
                of_this |= agreement(labels, clusters.cluster)
            of_this |= {
                "clusters": size,
                "empty": int(np.sum(counts == 0)),
                "smallest": int(counts.min()),
                "median": float(np.median(counts)),
                "largest": int(counts.max()),
            }
            end = f"_{number}" if number else ""
            figures |= {f"{name}{end}": value for name, value in of_this.items()}
        return figures | {"clustered": len(self.rows.numbers)}


def find_clusters(trained: Trained, images: Images) -> Found:
    """The clusters of images, as `eval.cluster_by` says.

    `prototypes`: the nearest prototype of the method, or for DeepCluster the class that its
    classifier finds. `sinkhorn`: the largest code of Sinkhorn-Knopp over all the images. `kmeans`:
    spherical k-means of `eval.layer` with `eval.clusters` clusters, and what methods without
    prototypes do.

    Raises:
      ConfigError: the run has no prototypes, or there are fewer images than clusters.
      DataError: no image can be read.
    """
    settings = trained.config.eval
    sets, network = ([], trained) if settings.cluster_by == "kmeans" else _prototypes(trained)
    if not sets and settings.cluster_by not in ("", "kmeans"):
        raise ConfigError(
            f"eval.cluster_by is {settings.cluster_by}, but the network in {trained.workdir} has "
            "no prototypes: use kmeans"
        )
    if not sets:
        return _by_kmeans(trained, images)
    rows = read_rows(network, images, sets[0].layer)
    if settings.cluster_by == "sinkhorn":
        found = [_evenly(rows, one, trained.config.method) for one in sets]
    else:
        found = [assign(rows.features, *one[1:]) for one in sets]
    sizes = [len(one.directions) for one in sets]
    how = "Sinkhorn codes" if settings.cluster_by == "sinkhorn" else "nearest prototype"
    return Found(rows, found, sizes, f"{trained.config.method.name}: {how}")


def agreement_before_training(trained: Trained, images: Images, found: Found) -> dict[str, float]:
    """How well k-means of the random network's features agrees with labels, if there are any.

    With as many clusters as `found` has of the same images.
    """
    rows, settings = found.rows, trained.config.eval
    if rows.labels is None:
        return {}
    before = features(at_random(trained), images, one_vector(settings.layer))[rows.numbers]
    read = were_read(before)  # those of the trained network may be older than a damage
    before, labels = before[read], rows.labels[read]
    if not len(before):
        return {}
    size, seed = min(found.sizes[0], len(before)), trained.config.seed
    clusters = assign_by_kmeans(before, size, temperature=TEMPERATURE, seed=seed)
    return agreement(labels, clusters.cluster)


def _by_kmeans(trained: Trained, images: Images) -> Found:
    settings, seed = trained.config.eval, trained.config.seed
    layer, size = one_vector(settings.layer), settings.clusters
    rows = read_rows(trained, images, layer)
    if size > len(rows.features):
        raise ConfigError(
            f"eval.clusters is {size}, but there are {len(rows.features)} images: ask for that "
            "many clusters or fewer"
        )
    found = assign_by_kmeans(rows.features, size, temperature=TEMPERATURE, seed=seed)
    return Found(rows, [found], [size], f"spherical k-means, {layer} features")


def _evenly(rows: Rows, prototypes: Prototypes, settings: ConfigDict) -> Clusters:
    if "epsilon" not in settings:
        raise ConfigError(
            f"eval.cluster_by is sinkhorn, but method {settings.name} has no Sinkhorn codes: use "
            "prototypes"
        )
    return assign_evenly(
        rows.features,
        prototypes.directions,
        epsilon=settings.epsilon,
        iterations=SINKHORN_ITERATIONS,
    )


def _prototypes(trained: Trained) -> tuple[list[Prototypes], Trained]:
    """The method's own prototypes, and the network whose rows they are compared with.

    There are none if the method has none, or if they were not imported.
    """
    method = make_method(in_steps(trained.config, steps_per_epoch=1))  # durations do not matter
    if not method.prototypes_in:
        return [], trained
    try:
        with jax.set_mesh(trained.mesh):
            saved, _ = load_variables(trained.checkpoint, method.prototypes_in)
    except KeyError:
        return [], trained
    try:
        sets = jax.device_get(method.prototype_sets(saved))
    except ValueError as reason:
        if not trained.config.eval.cluster_by:  # none yet, as in a warm-up: k-means then
            return [], trained
        raise ConfigError(f"{reason}: --config.eval.cluster_by=kmeans needs none") from None
    if variables := method.clustered_encoder(saved):
        identity = f"{trained.identity}, that which clusters"
        return sets, dataclasses.replace(trained, variables=variables, identity=identity)
    return sets, trained
