import jax.numpy as jnp
import numpy as np
from scipy.stats import chisquare

from swav_jax.ops.clusters import balanced_order, usage


def test_usage_counts_clusters_with_images():
    assignments = jnp.array([[0, 0, 0, 1, -1], [3, 2, 1, 0, 0]])
    found = usage(assignments, 4)
    np.testing.assert_allclose(found["clusters_used"], (0.5 + 1) / 2)
    np.testing.assert_allclose(found["largest_cluster"], (3 / 4 + 2 / 5) / 2)


def test_balanced_order_is_uniform_over_clusters_and_over_their_images():
    clusters = np.random.RandomState(2).permutation(np.repeat([0, 2, 7, -1], [100, 40, 5, 15]))
    draws = np.concatenate(
        [balanced_order(clusters, 160, np.random.RandomState([0, e])) for e in range(50)]
    )
    counts = np.bincount(draws, minlength=160)
    assert counts[clusters == -1].sum() == 0
    for cluster in (0, 2, 7):
        members = counts[clusters == cluster]
        assert abs(members.sum() - 50 * 160 / 3) <= 50
        assert chisquare(members).pvalue > 0.01  # each epoch starts with other images
    in_half = np.bincount(clusters[draws.reshape(50, 160)[:, :80].reshape(-1)])
    assert chisquare(in_half[[0, 2, 7]]).pvalue > 0.01  # and the clusters are mixed


def test_balanced_order_repeats_a_small_cluster_evenly():
    clusters = np.repeat([0, 1], [97, 3])
    counts = np.bincount(balanced_order(clusters, 100, np.random.RandomState(0)))
    assert sorted(counts[97:]) in ([16, 17, 17], [16, 16, 17], [16, 16, 18])
    assert counts[:97].max() == 1
