"""Every method on the same images, network, crops and epochs: the tables of `docs/results.md`.

    python -m benchmarks.systems [--workdir runs/systems] [--epochs 20] [--only swav,simclr]
                                 [--data_dir /data/tfds]

A *system* is a method with its settings; PCL has two. Crops are smaller than in
`configs/swav_cifar10_small.py`, for speed. Each system trains in a process of its own, by the loop
that users run; an interrupted one is resumed, and a finished one only read: two of these with
`--only`, each on a core of its own, take half the time. Clusters are the method's own; those of
methods that make none come from k-means on their features. *linear* is logistic regression on
centre crops. Prints the table; the last line is JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from configs.shared.cifar10_small import cifar10_small
from swav_jax import sharding, train
from swav_jax.checkpoints.read import load_variables
from swav_jax.evals.features import of_images, pooled
from swav_jax.evals.labelled import Images, labelled
from swav_jax.evals.logistic import fast_linear
from swav_jax.features import features
from swav_jax.images import open_images
from swav_jax.ops.kmeans import kmeans, random_rows
from swav_jax.ops.similarity import unit
from swav_jax.run import make_encoder
from swav_jax.runtime.xla import reuse_freed_memory, start
from swav_jax.trained import open_trained
from swav_jax.workdir import CONFIG, read_metrics, read_results, update_results

CLUSTERS = 100
KEYS = {  # of the methods with a key encoder: keys of a fifth of the images, and no batch norm
    "model.head_norm": False,
    "method.queue_length": 2048,
    "method.momentum": 0.99,
}
PROTOTYPES = KEYS | {
    "model.prototypes": 200,
    "method.granularity": (1, 2, 4),
    "method.negative_prototypes": 64,
    "method.warmup_epochs": 4,
    "method.kmeans_restarts": 2,
}
# The method of each system, and its own settings.
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "swav": ("swav", {"method.epsilon": 0.01, "method.freeze_prototypes_steps": 0}),
    "deepcluster_v2": ("deepcluster_v2", {"model.prototype_heads": 3}),
    "sela_v2": ("sela_v2", {"model.prototype_heads": 3, "method.epsilon": 0.02}),
    # A classifier that is drawn anew each epoch needs a rate that does not fall.
    "deepcluster": (
        "deepcluster",
        {"method.components": 64, "optim.schedule": "drops", "optim.base_lr": 0.05},
    ),
    "pcl_v1": (
        "pcl",
        PROTOTYPES
        | {"model.head_hidden": 0, "optim.schedule": "drops", "optim.drop_epochs": (12, 16)},
    ),
    "pcl_v2": ("pcl", PROTOTYPES),
    "moco_v2": ("moco", KEYS),
    "simclr": ("simclr", {"method.temperature": 0.2}),
}
COLUMNS = {
    "knn_top1": "k-NN",
    "linear_top1": "linear",
    "nmi": "NMI",
    "ami": "AMI",
    "kmeans_nmi": "NMI of k-means",
    "images_per_second": "images/s",
    "peak_memory_mib": "peak memory, MiB",
}


def main() -> None:
    """Trains the missing ones, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("runs/systems"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--only", default=",".join(SYSTEMS))
    parser.add_argument("--data_dir", default="", help="where TensorFlow Datasets has cifar10")
    parser.add_argument("--train", help="train and measure this system in this process")
    flags = parser.parse_args()
    if flags.train:
        measure(configuration(flags.train, flags), flags.workdir / flags.train)
        return
    if unknown := set(flags.only.split(",")) - set(SYSTEMS):
        sys.exit(f"error: --only has {', '.join(unknown)}; known are {', '.join(SYSTEMS)}")
    results = {}
    for name in flags.only.split(","):
        workdir = flags.workdir / name
        done = "systems" in read_results(workdir)
        if done and (epochs := trained_epochs(workdir)) != flags.epochs:
            sys.exit(f"error: {workdir} holds a run of {epochs} epochs: use another --workdir")
        if not done:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.systems", *sys.argv[1:], f"--train={name}"],
                check=True,
            )
        results[name] = read_results(workdir)["systems"]
    print("| System | " + " | ".join(COLUMNS.values()) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    for name, found in results.items():
        print(f"| {name} | " + " | ".join(f"{found[column]:.4g}" for column in COLUMNS) + " |")
    print(json.dumps({"epochs": flags.epochs, "systems": results}))


def trained_epochs(workdir: Path) -> int:
    """How long the system of a workdir was trained."""
    return json.loads((workdir / CONFIG).read_text())["train"]["epochs"]


def configuration(name: str, flags: argparse.Namespace) -> ConfigDict:
    """The settings that the systems share, with those of one."""
    method, settings = SYSTEMS[name]
    config = cifar10_small(method)
    config.data.data_dir = flags.data_dir
    config.data.crops = ((2, 20, 0.3, 1.0), (2, 12, 0.15, 0.5))
    config.data.eval_resize = config.data.eval_crop = 28  # objects about as large as in the crops
    config.train.epochs = flags.epochs
    config.update_from_flattened_dict(settings)
    return config


def measure(config: ConfigDict, workdir: Path) -> None:
    """Trains, and writes quality, speed and memory to `results.json`."""
    logging.set_verbosity(logging.INFO)
    start()
    reuse_freed_memory()
    train.pretrain(config, workdir)
    images = open_images(config, config.data.train)
    lines = read_metrics(workdir)
    with jax.set_mesh(sharding.make_mesh()):
        variables, _ = load_variables(workdir)
        by_kmeans = _by_kmeans(pooled(make_encoder(config), variables, images))
        clusters = own_clusters(config, workdir, variables, images)
    clusters = by_kmeans if clusters is None else clusters
    knn, labels = read_results(workdir)["knn"], images.source.labels
    trained = open_trained(config, workdir)
    pair = labelled(trained.train_images, trained.test_images())
    found = {
        "knn_top1": knn["top1"],
        "linear_top1": fast_linear(partial(features, trained), *pair)["top1"],
        "random_init_top1": knn["random_init_top1"],
        "nmi": normalized_mutual_info_score(labels, clusters),
        "ami": adjusted_mutual_info_score(labels, clusters),
        "kmeans_nmi": normalized_mutual_info_score(labels, by_kmeans),
        "images_per_second": speed(lines, images.source.size),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    update_results(workdir, "systems", found)


def speed(lines: list[dict[str, float]], images: int) -> float:
    """Images a second of a whole epoch, its clustering included, when nothing else runs.

    Taken from the fastest tenth of the intervals, because others may share the machine.
    """
    steps = np.quantile([x["images_per_second"] for x in lines if "images_per_second" in x], 0.9)
    clustering = [x["cluster_seconds"] for x in lines if "cluster_seconds" in x]
    return images / (images / steps + (np.quantile(clustering, 0.1) if clustering else 0))


def own_clusters(
    config: ConfigDict, workdir: Path, variables: Any, images: Images
) -> np.ndarray | None:
    """The method's cluster of each training image, int [N]; None if it makes none.

    Those that it assigned last, of its first head or level, or else the nearest prototypes.
    """
    try:
        extra, _ = load_variables(workdir, ("extra/assignments",))
        return np.asarray(extra["extra"]["assignments"][0, : images.source.size])
    except KeyError:
        pass
    if "prototypes" not in variables["params"]:
        return None
    prototypes = unit(variables["params"]["prototypes"]["prototypes0"])
    encoder = make_encoder(config)

    def embed(variables: Any, crops: jax.Array) -> Any:
        return encoder.apply(variables, (crops[:, None],), train=False)[:, 0]

    embedding = of_images(embed, variables, images)
    return np.argmax(embedding @ np.asarray(prototypes).T, axis=1)


def _by_kmeans(features: np.ndarray) -> np.ndarray:
    rows = unit(jax.numpy.asarray(features))
    centroids = random_rows(jax.random.key(0), rows, CLUSTERS, restarts=5)
    return np.asarray(kmeans(rows, centroids, iterations=20).assignments)


if __name__ == "__main__":
    main()
