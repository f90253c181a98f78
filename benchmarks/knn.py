"""Exact k-NN, by itself or beside faiss: the same features, the same neighbours.

    pip install -e ".[peers]"
    python -m benchmarks.knn --peer [--rows 100000] [--width 2048] [--queries 2000] [--k 20]

Features are unit vectors around common centres. Both search `rounds` times, in turn, so that
whatever else the machine does slows both; the fastest round of each counts. Compilation is not
timed, nor is faiss's copy of the rows into its index. The last line is JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.flags import check_peer, count
from swav_jax.evals.knn import neighbours
from swav_jax.runtime.xla import start


def main() -> None:
    """Times one or both, and prints the seconds and how many neighbours are the same."""
    flags = parse_flags()
    start()
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, flags.width), np.float32)

    def features(n: int) -> np.ndarray:
        x = centres[rng.integers(len(centres), size=n)]
        x += rng.standard_normal(x.shape, np.float32)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    rows, queries = features(flags.rows), features(flags.queries)

    def ours() -> np.ndarray:
        return np.asarray(neighbours(rows, queries, flags.k)[1])

    searches = {"ours": ours}
    if flags.peer:
        searches["faiss"] = faiss_search(rows, queries, flags.k)
    ours()  # compiles
    best: dict[str, float] = {}
    found: dict[str, np.ndarray] = {}
    for _ in range(flags.rounds):
        for name, search in searches.items():
            seconds, found[name] = timed(search)
            best[name] = min(seconds, best.get(name, seconds))
            print(f"{name} {seconds:.2f} s")
    result = {**vars(flags), "seconds": best["ours"]}
    if flags.peer:
        result["peer_seconds"] = best["faiss"]
        result["ratio"] = best["faiss"] / best["ours"]
        result["same_neighbours"] = float(np.mean(found["ours"] == found["faiss"]))
    print(json.dumps(result))


def faiss_search(rows: np.ndarray, queries: np.ndarray, k: int) -> Callable[[], np.ndarray]:
    """The search of faiss's exact index, which holds the rows."""
    import faiss  # only for comparing

    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return lambda: index.search(queries, k)[1]


def timed(search: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """(Seconds, what the search returns)."""
    begin = time.perf_counter()
    found = search()
    return time.perf_counter() - begin, found


def parse_flags() -> Any:
    """Sizes of the problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=count, default=100_000)
    parser.add_argument("--width", type=count, default=2048)
    parser.add_argument("--queries", type=count, default=2000)
    parser.add_argument("--k", type=count, default=20)
    parser.add_argument("--rounds", type=count, default=3, help="times that each of them searches")
    parser.add_argument("--peer", action="store_true", help="compare with faiss-cpu")
    flags = parser.parse_args()
    if flags.k > flags.rows:
        parser.error(f"--k={flags.k} is more than --rows={flags.rows}")
    if flags.peer:
        check_peer("faiss")
    return flags


if __name__ == "__main__":
    main()
