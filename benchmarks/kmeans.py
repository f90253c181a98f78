"""K-means, by itself or beside faiss: the same data, starting centroids and iterations.

    pip install -e ".[peers]"
    python -m benchmarks.kmeans --peer [--rows 100000] [--width 128] [--clusters 1000]
                                [--iterations 10]

Both cluster `rounds` times, in turn, so that whatever else the machine does slows both; the fastest
round of each counts. Compilation is not timed. The last line is JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.flags import check_peer, count
from swav_jax.ops.kmeans import kmeans, random_rows
from swav_jax.runtime.xla import start


def main() -> None:
    """Times one or both, and prints their seconds and inertias."""
    flags = parse_flags()
    start()
    # Two Gaussians for each cluster asked for: structure to find, and more than fits.
    rng = np.random.RandomState(0)
    centres = rng.randn(2 * flags.clusters, flags.width)
    x = centres[rng.randint(len(centres), size=flags.rows)] + rng.randn(flags.rows, flags.width)
    x = x.astype(np.float32)
    x_device = jnp.asarray(x)
    start_key, empty_key = jax.random.split(jax.random.key(0))
    init = random_rows(start_key, x_device, flags.clusters)[0]

    def ours() -> float:
        found = kmeans(x_device, init, iterations=flags.iterations, split_empty=empty_key)
        return float(found.inertia)

    runs = {"ours": ours}
    if flags.peer:
        runs["faiss"] = faiss_kmeans(x, np.asarray(init), flags.iterations)
    ours()  # compiles
    best: dict[str, tuple[float, float]] = {}
    for _ in range(flags.rounds):
        for name, run in runs.items():
            seconds, inertia = timed(run)
            best[name] = min((seconds, inertia), best.get(name, (seconds, inertia)))
            print(f"{name} {seconds:.2f} s, inertia {inertia:.6g}")
    seconds, inertia = best["ours"]
    result = {**vars(flags), "seconds": seconds, "inertia": inertia}
    if flags.peer:
        peer_seconds, peer_inertia = best["faiss"]
        result["peer_seconds"], result["peer_inertia"] = peer_seconds, peer_inertia
        result["ratio"] = peer_seconds / seconds
    print(json.dumps(result))


def faiss_kmeans(x: np.ndarray, init: np.ndarray, iterations: int) -> Callable[[], float]:
    """Faiss's clustering, which gives its inertia after a last assignment."""
    import faiss  # only for comparing

    clusters, width = init.shape

    def run() -> float:
        clustering = faiss.Clustering(width, clusters)
        clustering.niter = iterations
        clustering.max_points_per_centroid = len(x)  # all rows, no sample of them
        clustering.min_points_per_centroid = 1  # no warning about few rows
        faiss.copy_array_to_vector(init.reshape(-1), clustering.centroids)
        index = faiss.IndexFlatL2(width)
        clustering.train(x, index)
        distances, _ = index.search(x, 1)
        return float(distances.sum(dtype=np.float64))

    return run


def timed(run: Callable[[], float]) -> tuple[float, float]:
    """(Seconds, what the run returns)."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def parse_flags() -> Any:
    """Sizes of the problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=count, default=100_000)
    parser.add_argument("--width", type=count, default=128)
    parser.add_argument("--clusters", type=count, default=1000)
    parser.add_argument("--iterations", type=count, default=10)
    parser.add_argument("--rounds", type=count, default=3, help="times that each of them runs")
    parser.add_argument("--peer", action="store_true", help="compare with faiss-cpu")
    flags = parser.parse_args()
    if flags.clusters > flags.rows:
        parser.error(f"--clusters={flags.clusters} is more than --rows={flags.rows}")
    if flags.peer:
        check_peer("faiss")
    return flags


if __name__ == "__main__":
    main()
