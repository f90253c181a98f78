"""K-means against faiss: the same data, the same starting centroids, as many iterations.

    pip install faiss-cpu
    python -m benchmarks.kmeans [--rows 100000] [--width 128] [--clusters 1000] [--iterations 10]

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

from swav_jax.ops.kmeans import kmeans, random_rows
from swav_jax.runtime.xla import start

try:
    import faiss
except ModuleNotFoundError as error:
    raise SystemExit("The peer is missing: pip install faiss-cpu") from error


def main() -> None:
    """Times both and prints their seconds and inertias."""
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

    def peer() -> float:
        return faiss_kmeans(x, np.asarray(init), flags.iterations)

    ours()  # compiles
    rounds = [(timed(ours), timed(peer)) for _ in range(flags.rounds)]
    for (seconds, inertia), (peer_seconds, peer_inertia) in rounds:
        print(
            f"ours {seconds:.2f} s, inertia {inertia:.6g}; "
            f"faiss {peer_seconds:.2f} s, inertia {peer_inertia:.6g}"
        )
    seconds, inertia = min(ours for ours, _ in rounds)
    peer_seconds, peer_inertia = min(peer for _, peer in rounds)
    result = {
        **vars(flags),
        "threads": faiss.omp_get_max_threads(),
        "seconds": seconds,
        "peer_seconds": peer_seconds,
        "ratio": peer_seconds / seconds,
        "inertia": inertia,
        "peer_inertia": peer_inertia,
    }
    print(json.dumps(result))


def faiss_kmeans(x: np.ndarray, init: np.ndarray, iterations: int) -> float:
    """The inertia of faiss's clustering after a last assignment."""
    clusters, width = init.shape
    clustering = faiss.Clustering(width, clusters)
    clustering.niter = iterations
    clustering.max_points_per_centroid = len(x)  # all rows, no sample of them
    clustering.min_points_per_centroid = 1  # no warning about few rows
    faiss.copy_array_to_vector(init.reshape(-1), clustering.centroids)
    index = faiss.IndexFlatL2(width)
    clustering.train(x, index)
    distances, _ = index.search(x, 1)
    return float(distances.sum(dtype=np.float64))


def timed(run: Callable[[], float]) -> tuple[float, float]:
    """(Seconds, what the run returns)."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def parse_flags() -> Any:
    """Sizes of the problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3, help="times that each of the two runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
