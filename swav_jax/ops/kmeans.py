"""K-means over a data set laid over devices, in bounded memory.

Lloyd's iterations minimise sum_i |x_i - c_a(i)|^2 (S. Lloyd, Least squares quantization in PCM,
1982). The spherical variant keeps the centroids on the unit sphere and assigns by the largest
x_i . c_k (Dhillon and Modha, Concept decompositions for large sparse text data, 2001).

Rows are spread over devices and centroids are whole on each: only the clusters' sums travel. The
N x K scores never exist at once: each device makes them for a chunk of its rows at a time.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from swav_jax.ops.chunks import even_chunk
from swav_jax.ops.largest import first_largest
from swav_jax.ops.precision import full_einsum
from swav_jax.ops.similarity import similarity, unit
from swav_jax.sharding import SAMPLES, WHOLE, on_blocks

State = tuple[Array, Array, Array, Array]  # update, centroids, assignments, counts

# 8 MiB in float32, which stay in a CPU's caches: with 8 times as many assigning takes half as long
# again. On accelerators it was not measured.
CHUNK_SCORES = 2**21


class KMeans(NamedTuple):
    """A clustering of N rows into K clusters; of several restarts, the one of least inertia."""

    centroids: Float[Array, "K D"]  # of unit length if spherical
    assignments: Int[Array, "N"]  # -1 where a row is not valid
    distances: Float[Array, "N"]  # squared L2 to the assigned centroid; 0 where not valid
    inertia: Float[Array, ""]  # the sum of `distances`
    counts: Int[Array, "K"]  # valid rows in each cluster


def random_rows(
    key: Key[Array, ""],
    x: Float[Array, "N D"],
    clusters: int,
    *,
    restarts: int = 1,
    valid: Bool[Array, "N"] | None = None,
) -> Float[Array, "R K D"]:
    """Draws starts for k-means: R times K distinct valid rows, all rows equally likely.

    The draw is the same on any number of devices and with any padding at the end.

    Raises:
      ValueError: there are fewer valid rows than clusters.
    """
    _check_enough(clusters, x, valid)
    return _random_rows(key, x, valid, clusters, restarts)


def kmeans(
    x: Float[Array, "N D"],
    init: Float[Array, "*R K D"],
    *,
    iterations: int,
    spherical: bool = False,
    split_empty: Key[Array, ""] | None = None,
    valid: Bool[Array, "N"] | None = None,
    chunk: int | None = None,
) -> KMeans:
    """Clusters rows by `iterations` updates of the centroids and a last assignment.

    Computed in float32, or in float64 where x is; the same key gives the same clusters. Under
    `jax.set_mesh` the rows are spread over the `data` axis, which must divide N: pad, and mask with
    `valid`. Inside `jax.jit` valid rows cannot be counted beforehand, so K is only checked against
    N.

    Args:
      x: the data.
      init: the centroids to start from, as `random_rows` draws them: one set, or R for R restarts.
      iterations: updates of the centroids.
      spherical: assign by the largest x . c and scale centroids to unit length.
      split_empty: a key by which a centroid without rows moves next to that of a large cluster;
        while any cluster is empty at the end, there are up to `iterations` more updates. By default
        a centroid without rows stays where it is.
      valid: the rows that count; all by default. The others must be finite.
      chunk: rows scored at a time on a device, at most; by default `CHUNK_SCORES` / K.

    Raises:
      ValueError: there are fewer valid rows than clusters.
    """
    init = init if init.ndim == 3 else init[None]
    clusters = init.shape[1]
    _check_enough(clusters, x, valid)
    return _best_of_restarts(
        x,
        init,
        valid,
        split_empty,
        iterations=iterations,
        spherical=spherical,
        chunk=chunk or max(1, CHUNK_SCORES // clusters),
    )


def _check_enough(clusters: int, x: Array, valid: Array | None) -> None:
    rows = x.shape[0]
    if valid is not None and not isinstance(valid, jax.core.Tracer):
        rows = int(valid.sum())
    if clusters > rows:
        raise ValueError(
            f"k-means cannot make {clusters} clusters of {rows} rows: "
            f"ask for {rows} clusters or fewer, or cluster more images."
        )


@partial(jax.jit, static_argnames=("clusters", "restarts"))
def _random_rows(
    key: Key[Array, ""], x: Array, valid: Array | None, clusters: int, restarts: int
) -> Array:
    valid = jnp.ones(x.shape[0], bool) if valid is None else valid

    def draw(key: Key[Array, ""]) -> Array:
        # A key for each row, so that a row's draw does not depend on how many others there are.
        lot = jax.vmap(lambda row: jax.random.uniform(jax.random.fold_in(key, row)))
        lots = jnp.where(valid, lot(jnp.arange(x.shape[0])), -1)
        return x[lax.top_k(lots, clusters)[1]]

    return jax.vmap(draw)(jax.random.split(key, restarts))


@partial(jax.jit, static_argnames=("iterations", "spherical", "chunk"))
def _best_of_restarts(
    x: Array, init: Array, valid: Array | None, split_empty: Array | None, **settings: Any
) -> KMeans:
    dtype = np.promote_types(x.dtype, np.float32)
    valid = jnp.ones(x.shape[0], bool) if valid is None else valid
    keys = None if split_empty is None else jax.random.split(split_empty, len(init))

    def best(
        x: Array,
        init: Array,
        valid: Array,
        keys: Array | None,
        sample_axes: Sequence[str],
        prototype_axes: Sequence[str],
    ) -> KMeans:
        run = partial(_lloyd, x, valid, axes=sample_axes, **settings)
        runs = lax.map(lambda start: run(*start), (init, keys))
        least = jnp.argmin(runs.inertia)
        return jax.tree.map(lambda leaf: leaf[least], runs)

    return on_blocks(
        best,
        (x.astype(dtype), init.astype(dtype), valid, keys),
        in_specs=(SAMPLES, WHOLE, SAMPLES, WHOLE),
        out_specs=KMeans._make((WHOLE, SAMPLES, SAMPLES, WHOLE, WHOLE)),
    )


def _lloyd(
    x: Float[Array, "n D"],
    valid: Bool[Array, "n"],
    init: Float[Array, "K D"],
    split_empty: Key[Array, ""] | None,
    *,
    iterations: int,
    spherical: bool,
    chunk: int,
    axes: Sequence[str],
) -> KMeans:
    """One start's iterations, on one device's n of the N rows."""
    clusters, width = init.shape
    # Rows that are left over from whole chunks would make `lax.map` copy all of them.
    even = even_chunk(len(x), chunk)
    by_chunks = partial(lax.map, batch_size=even if 2 * even > chunk else chunk)
    squares = lax.psum(jnp.sum(by_chunks(lambda row: jnp.sum(row**2), x), where=valid), axes)
    rms = jnp.sqrt(squares / (width * lax.psum(jnp.sum(valid, dtype=x.dtype), axes)))

    def assign(centroids: Array) -> tuple[Array, Array]:
        # |x - c|^2 = |x|^2 - 2 (x . c - |c|^2 / 2); on the sphere |c| is the same for all.
        offsets = jnp.sum(centroids**2, axis=1) * (0 if spherical else 0.5)

        def nearest(row: Array) -> Array:
            return first_largest(similarity(row, centroids) - offsets)

        # Clusters are 0..K-1; sums over them leave out a row whose cluster is K.
        assignments = jnp.where(valid, by_chunks(nearest, x), clusters)
        sizes = jax.ops.segment_sum(valid.astype(jnp.int32), assignments, clusters)
        return assignments, lax.psum(sizes, axes)

    def unfinished(state: State) -> Array:
        step, _, _, counts = state
        if split_empty is None:
            return step < iterations
        return (step < iterations) | (jnp.any(counts == 0) & (step < 2 * iterations))

    def update(state: State) -> State:
        step, centroids, assignments, counts = state
        sums = lax.psum(_cluster_sums(x, assignments, clusters, chunk), axes)
        means = sums / jnp.maximum(counts, 1).astype(x.dtype)[:, None]
        elsewhere = centroids
        if split_empty is not None:
            key = jax.random.fold_in(split_empty, step)
            elsewhere = _beside_large(key, means, counts, rms / 1024)
        centroids = jnp.where(counts[:, None] > 0, means, elsewhere)
        centroids = unit(centroids) if spherical else centroids
        return step + 1, centroids, *assign(centroids)

    def distance(row_and_cluster: tuple[Array, Array]) -> Array:
        row, cluster = row_and_cluster
        return jnp.sum((row - centroids[cluster]) ** 2)

    start = (jnp.int32(0), init, *assign(init))
    _, centroids, assignments, counts = lax.while_loop(unfinished, update, start)
    distances = jnp.where(valid, by_chunks(distance, (x, assignments)), 0)
    inertia = lax.psum(jnp.sum(distances), axes)
    return KMeans(centroids, jnp.where(valid, assignments, -1), distances, inertia, counts)


def _beside_large(key: Key[Array, ""], means: Array, counts: Array, scale: Array) -> Array:
    """For each of the K clusters a place near the mean of a large one.

    The large one is drawn with probability (count - 1) / (N - K), as in the faiss library: never an
    empty one, rarely the same twice. The random direction splits its rows in two.
    """
    draw_key, direction_key = jax.random.split(key)
    spare = jnp.cumsum(jnp.maximum(counts - 1, 0))
    draws = jax.random.randint(draw_key, counts.shape, 0, jnp.maximum(spare[-1], 1), spare.dtype)
    large = jnp.searchsorted(spare, draws, side="right")
    return means[large] + scale * jax.random.normal(direction_key, means.shape, means.dtype)


def _cluster_sums(x: Array, assignments: Array, clusters: int, chunk: int) -> Array:
    """The sum of each cluster's rows [K, D], always added in the same order.

    On a CPU a scatter takes a hundredth of the time of assigning. On accelerators its additions
    are serial (TPU) or in no fixed order (GPU); a product with one-hot rows is neither.
    """

    def scatter(x: Array, assignments: Array) -> Array:
        return jax.ops.segment_sum(x, assignments, clusters)

    return lax.platform_dependent(
        x,
        assignments,
        cpu=scatter,
        default=partial(_one_hot_sums, clusters=clusters, chunk=chunk),
    )


def _one_hot_sums(x: Array, assignments: Array, clusters: int, chunk: int) -> Array:
    rows = min(chunk, x.shape[0])
    starts = range(0, x.shape[0], rows)

    def sums_of_chunk(i: Array | int) -> Array:
        # The last chunk ends with the last row; what it shares with the one before counts there.
        start = jnp.minimum(i * rows, x.shape[0] - rows)
        part = lax.dynamic_slice_in_dim(assignments, start, rows)
        part = jnp.where(start + jnp.arange(rows) < i * rows, clusters, part)
        one_hot = jax.nn.one_hot(part, clusters, dtype=x.dtype)
        x_part = lax.dynamic_slice_in_dim(x, start, rows)
        return full_einsum("nk,nd->kd", one_hot, x_part)

    def add(i: Array, sums: Array) -> Array:
        return sums + sums_of_chunk(i)

    return lax.fori_loop(1, len(starts), add, sums_of_chunk(0))
