import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from swav_jax.evals import clusters as clusters_lib
from swav_jax.evals.clusters import assign, assign_by_kmeans, assign_evenly


def unit_rows(seed, rows, width=6):
    x = np.random.RandomState(seed).randn(rows, width).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_assignment_is_that_of_numpy(monkeypatch):
    monkeypatch.setattr(clusters_lib, "SCORES", 5 * 7)  # pieces of 7 rows
    x, prototypes, bias = unit_rows(0, 40), unit_rows(1, 5), np.float32([0, 0.1, 0, -0.2, 0])
    temperature = np.float32([0.1, 0.2, 0.3, 0.4, 0.5])
    found = assign(x, prototypes, temperature, bias)
    scores = x.astype(np.float64) @ prototypes.T + bias
    order = np.argsort(-scores, axis=1)
    np.testing.assert_array_equal(found.cluster, order[:, 0])
    np.testing.assert_array_equal(found.second_cluster, order[:, 1])
    np.testing.assert_allclose(found.score, scores.max(axis=1), atol=1e-6)
    expected = entropy(softmax(scores / temperature, axis=1), axis=1)
    np.testing.assert_allclose(found.entropy, expected, atol=1e-5)
    for cluster in range(5):
        members = np.flatnonzero(found.cluster == cluster)
        by_score = members[np.argsort(-found.score[members])]
        np.testing.assert_array_equal(found.rank[by_score], 1 + np.arange(len(members)))


def test_of_equal_images_the_earlier_one_is_nearer():
    x = np.repeat(unit_rows(0, 1), 3, axis=0)
    assert assign(x, unit_rows(1, 4), 0.1).rank.tolist() == [1, 2, 3]


def test_one_image_and_one_cluster():
    found = assign(unit_rows(0, 1), unit_rows(0, 1), 0.1)
    assert found.cluster.tolist() == [0] and found.second_cluster.tolist() == [-1]
    assert found.score == pytest.approx([1]) and found.entropy.tolist() == [0]


def test_codes_use_all_clusters_where_the_nearest_prototype_does_not():
    x = unit_rows(0, 60)
    prototypes = np.concatenate([unit_rows(1, 1), -x.mean(axis=0, keepdims=True)] * 2)
    found = assign_evenly(x, prototypes[:2], epsilon=0.05, iterations=30)
    sizes = np.bincount(found.cluster, minlength=2)
    nearest = np.bincount(assign(x, prototypes[:2], 0.1).cluster, minlength=2)
    assert abs(sizes[0] - sizes[1]) < abs(nearest[0] - nearest[1])
    np.testing.assert_array_equal(found.second_cluster, 1 - found.cluster)
    scores = np.sum(x * prototypes[found.cluster], axis=1)
    np.testing.assert_allclose(found.score, scores, atol=1e-6)
    assert np.all((found.entropy >= 0) & (found.entropy <= np.log(2) + 1e-6))


def test_kmeans_finds_groups_of_any_length_and_repeats():
    random = np.random.RandomState(0)
    groups = np.repeat(np.eye(3, 5), 20, axis=0) + 0.05 * random.randn(60, 5)
    x = (groups * random.uniform(0.1, 10, (60, 1))).astype(np.float32)
    found = assign_by_kmeans(x, 3, temperature=0.1)
    for group in found.cluster.reshape(3, 20):
        assert len(set(group)) == 1
    assert sorted(np.bincount(found.cluster)) == [20, 20, 20]
    again = assign_by_kmeans(x, 3, temperature=0.1)
    np.testing.assert_array_equal(found.cluster, again.cluster)
    with pytest.raises(ValueError, match="4 clusters of 3 rows"):
        assign_by_kmeans(x[:3], 4, temperature=0.1)
