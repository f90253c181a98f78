import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from sklearn.cluster import KMeans as SklearnKMeans

from swav_jax.ops.kmeans import _one_hot_sums, kmeans, random_rows
from swav_jax.ops.similarity import unit
from swav_jax.sharding import SAMPLES, make_mesh

KEY = jax.random.key(0)


def blobs(rows=240, width=8, centres=6, seed=0, spread=0.6):
    rng = np.random.RandomState(seed)
    middles = rng.randn(centres, width) * 2
    x = middles[rng.randint(centres, size=rows)] + spread * rng.randn(rows, width)
    return x.astype(np.float32)


def scikit_learn(x, init, iterations):
    peer = SklearnKMeans(len(init), init=init, n_init=1, max_iter=iterations, tol=0)
    return peer.fit(x)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("iterations", [1, 3, 100])
def test_is_lloyds_algorithm_as_in_scikit_learn(iterations, x64):
    x = np.float64(blobs())
    ours = kmeans(jnp.asarray(x), jnp.asarray(x[:9]), iterations=iterations, chunk=50)
    peer = scikit_learn(x, x[:9], iterations)
    np.testing.assert_allclose(ours.centroids, peer.cluster_centers_, rtol=1e-9)
    np.testing.assert_array_equal(ours.assignments, peer.labels_)
    np.testing.assert_allclose(ours.inertia, peer.inertia_, rtol=1e-9)
    np.testing.assert_array_equal(ours.counts, np.bincount(peer.labels_, minlength=9))
    assert ours.centroids.dtype == ours.inertia.dtype == jnp.float64
    assert ours.assignments.dtype == ours.counts.dtype == jnp.int32


def test_no_iteration_is_one_assignment(x64):
    x = np.float64(blobs())
    ours = kmeans(jnp.asarray(x), jnp.asarray(x[:9]), iterations=0)
    square = ((x[:, None] - x[None, :9]) ** 2).sum(-1)
    np.testing.assert_array_equal(ours.centroids, x[:9])
    np.testing.assert_array_equal(ours.assignments, square.argmin(1))
    np.testing.assert_allclose(ours.distances, square.min(1), rtol=1e-12)
    np.testing.assert_allclose(ours.inertia, square.min(1).sum(), rtol=1e-12)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_restarts_return_the_run_of_least_inertia():
    x = jnp.asarray(blobs(centres=12))
    init = random_rows(jax.random.key(3), x, 12, restarts=5)
    peers = [scikit_learn(np.asarray(x), np.asarray(start), 20) for start in init]
    inertias = [peer.inertia_ for peer in peers]
    assert min(inertias) < 0.95 * inertias[0]
    ours = kmeans(x, init, iterations=20)
    np.testing.assert_allclose(ours.inertia, min(inertias), rtol=1e-5)
    np.testing.assert_array_equal(ours.assignments, peers[np.argmin(inertias)].labels_)


@pytest.mark.parametrize("options", [{}, {"spherical": True}, {"split_empty": KEY}])
def test_eight_devices_equal_one(options):
    x = jnp.abs(jnp.asarray(blobs(rows=400)))
    start = random_rows(jax.random.key(0), x, 10, restarts=3)
    start = start.at[:, 1].set(-100.0)  # an empty cluster
    one = kmeans(x, start, iterations=5, **options)
    mesh = make_mesh()
    with jax.set_mesh(mesh):
        spread = jax.device_put(x, NamedSharding(mesh, SAMPLES))
        eight = kmeans(spread, start, iterations=5, chunk=17, **options)
    assert eight.assignments.sharding.spec == SAMPLES
    np.testing.assert_array_equal(eight.assignments, one.assignments)
    np.testing.assert_array_equal(eight.counts, one.counts)
    np.testing.assert_allclose(eight.centroids, one.centroids, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(eight.inertia, one.inertia, rtol=1e-5)


def test_jit_equals_eager():
    x = jnp.abs(jnp.asarray(blobs(rows=60)))
    start = x[:7].at[6].set(-100.0)
    options = {"iterations": 2, "spherical": True, "split_empty": KEY}
    compiled = jax.jit(lambda x, start: kmeans(x, start, **options))(x, start)
    with jax.disable_jit():
        eager = kmeans(x, start, **options)
    np.testing.assert_array_equal(compiled.assignments, eager.assignments)
    np.testing.assert_allclose(compiled.centroids, eager.centroids, rtol=1e-5, atol=1e-6)


def test_spherical_centroids_are_unit_sums_and_assign_by_product(x64):
    x = unit(jnp.asarray(np.float64(blobs())))
    init = x[:6]
    result = kmeans(x, init, iterations=1, spherical=True)
    first = np.argmax(x @ init.T, axis=1)
    sums = np.stack([x[first == k].sum(0) for k in range(6)])
    expected = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(result.centroids, expected, rtol=1e-12)
    products = np.asarray(x) @ expected.T
    np.testing.assert_array_equal(result.assignments, products.argmax(1))
    np.testing.assert_allclose(result.distances, 2 - 2 * products.max(1), atol=1e-12)


def test_spherical_assigns_by_product_where_lengths_differ():
    x = jnp.array([[1.0, 0.5]])
    init = jnp.array([[4.0, 0.0]])  # far, though its product is the largest
    near = jnp.array([[0.0, 1.0]])
    both = jnp.concatenate([init, near])
    rows = jnp.concatenate([x, x])
    assert kmeans(rows, both, iterations=0, spherical=True).assignments.tolist() == [0, 0]
    assert kmeans(rows, both, iterations=0).assignments.tolist() == [1, 1]


def test_empty_clusters_keep_their_centroid():
    x = jnp.asarray(blobs())
    init = x[:5].at[2].set(100.0)
    result = kmeans(x, init, iterations=4)
    assert result.counts[2] == 0
    np.testing.assert_array_equal(result.centroids[2], init[2])


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_split_leaves_no_cluster_empty(seed, spherical):
    x = unit(jnp.abs(jnp.asarray(blobs(seed=seed))))
    init = jnp.full((30, 8), -100.0).at[7].set(x[0])  # 29 of 30 clusters start empty
    assert jnp.sum(kmeans(x, init, iterations=10, spherical=spherical).counts > 0) == 1
    split = kmeans(x, init, iterations=10, spherical=spherical, split_empty=KEY)
    assert int(split.counts.min()) > 0
    assert int(split.counts.sum()) == len(x)


def test_where_an_empty_cluster_moves_is_drawn_from_the_key():
    x = jnp.asarray(blobs())
    init = jnp.full((9, 8), -100.0).at[0].set(x[0])

    def centroids(start, key):
        return np.asarray(kmeans(x, start, iterations=1, split_empty=key).centroids)

    np.testing.assert_array_equal(centroids(init, KEY), centroids(init, KEY))
    assert np.abs(centroids(init, KEY) - centroids(init, jax.random.key(1))).max() > 0.01


def test_split_works_around_the_origin_and_beside_equal_rows():
    equal = jnp.ones((50, 4))
    others = jnp.asarray(np.random.RandomState(0).randn(20, 4).astype(np.float32))
    x = jnp.concatenate([equal, others, -others, -equal])  # their mean is zero
    init = jnp.full((8, 4), 100.0).at[0].set(0)
    split = kmeans(x, init, iterations=20, split_empty=KEY)
    assert int(split.counts.min()) > 0


def test_split_stops_where_rows_cannot_be_parted():
    init = jnp.full((4, 3), 100.0).at[0].set(1)
    result = kmeans(jnp.ones((10, 3)), init, iterations=5, split_empty=KEY)
    np.testing.assert_array_equal(np.sort(result.counts), [0, 0, 0, 10])
    assert jnp.isfinite(result.centroids).all()


def test_rows_that_are_not_valid_change_nothing():
    x = jnp.asarray(blobs(rows=90))
    padded = jnp.concatenate([x, jnp.full((10, 8), 1e3)])
    valid = jnp.arange(100) < 90
    key = jax.random.key(1)
    init = random_rows(key, x, 7, restarts=2)
    np.testing.assert_array_equal(random_rows(key, padded, 7, restarts=2, valid=valid), init)
    alone = kmeans(x, init, iterations=5, split_empty=KEY)
    masked = kmeans(padded, init, iterations=5, split_empty=KEY, valid=valid)
    np.testing.assert_array_equal(masked.assignments[:90], alone.assignments)
    np.testing.assert_array_equal(masked.assignments[90:], -np.ones(10))
    np.testing.assert_array_equal(masked.distances[90:], np.zeros(10))
    np.testing.assert_array_equal(masked.counts, alone.counts)
    np.testing.assert_allclose(masked.centroids, alone.centroids, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(masked.inertia, alone.inertia, rtol=1e-6)


def test_random_rows_are_distinct_rows_each_as_likely():
    x = jnp.arange(20.0)[:, None]
    drawn = np.int32(random_rows(jax.random.key(0), x, 5, restarts=2000)[..., 0])
    assert all(len(set(draw)) == 5 for draw in drawn)
    counts = np.bincount(drawn.reshape(-1), minlength=20)
    chi_square = ((counts - 500) ** 2 / 500).sum()
    assert 5 < chi_square < 40  # 19 degrees of freedom
    everything = random_rows(jax.random.key(0), x, 20)[0, :, 0]
    assert sorted(everything.tolist()) == list(range(20))


@pytest.mark.parametrize("call", [
    lambda x, valid: kmeans(x, jnp.zeros((5, 2)), iterations=1, valid=valid),
    lambda x, valid: random_rows(jax.random.key(0), x, 5, valid=valid),
])  # fmt: skip
def test_more_clusters_than_valid_rows_is_an_error(call):
    x = jnp.zeros((8, 2))
    with pytest.raises(ValueError, match=r"5 clusters of 4 rows.*4 clusters or fewer"):
        call(x, jnp.arange(8) < 4)
    with pytest.raises(ValueError, match=r"5 clusters of 3 rows"):
        jax.jit(lambda x: call(x, None))(x[:3])
    call(x, jnp.arange(8) < 5)


@pytest.mark.parametrize("chunk", [1, 16, 33, 100, 1000])
def test_one_hot_sums_equal_scattered_ones(chunk):
    x = jnp.asarray(blobs(rows=100))
    assignments = jnp.asarray(np.random.RandomState(0).randint(12, size=100))  # 11: in no cluster
    expected = jax.ops.segment_sum(x, assignments, 11)
    ours = _one_hot_sums(x, assignments, 11, chunk)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_scores_of_all_rows_never_exist_at_once():
    rows, clusters, chunk = 40_000, 500, 256
    x, init = jnp.zeros((rows, 4)), jnp.zeros((clusters, 4))
    run = jax.jit(lambda x, init: kmeans(x, init, iterations=3, chunk=chunk))
    temporary = run.lower(x, init).compile().memory_analysis().temp_size_in_bytes
    assert temporary < 4 * (3 * chunk * clusters + 10 * rows * 4) < 4 * rows * clusters / 8


def test_half_precision_rows_are_clustered_in_float32():
    x = jnp.asarray(blobs()).astype(jnp.bfloat16)
    half = kmeans(x, x[:4], iterations=3)
    single = kmeans(x.astype(jnp.float32), x[:4].astype(jnp.float32), iterations=3)
    assert half.centroids.dtype == jnp.float32
    np.testing.assert_array_equal(half.assignments, single.assignments)
    np.testing.assert_allclose(half.centroids, single.centroids, rtol=1e-5, atol=1e-6)
