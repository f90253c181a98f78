import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from swav_jax.evals.curation import (
    diverse_subset,
    duplicates_and_outliers,
    even_shares,
    hierarchy,
    level_sizes,
    near_duplicates,
    remoteness,
    whitened,
)
from swav_jax.evals.knn import others


def rows(seed, count, width=8):
    return np.random.RandomState(seed).randn(count, width).astype(np.float32)


def duplicates(x, threshold, k=3):
    return near_duplicates(*others(x, k), x, threshold)


def test_neighbours_are_those_of_scikit_learn():
    x = rows(0, 30)
    nearest, who = others(x, 4)
    theirs = NearestNeighbors(n_neighbors=4, metric="cosine").fit(x)
    distance, number = theirs.kneighbors()  # of the rows themselves: they are left out
    np.testing.assert_array_equal(who, number)
    np.testing.assert_allclose(nearest, 1 - distance, atol=1e-6)
    np.testing.assert_allclose(remoteness(nearest), distance.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("copies", [2, 5, 12])
def test_copies_are_one_group_also_if_there_are_more_than_neighbours(copies):
    x = rows(0, 20)
    x = np.concatenate([x, np.repeat(x[7:8], copies - 1, axis=0) * 3])
    found = duplicates(x, 0.99)
    members = [7, *range(20, 19 + copies)]
    assert np.flatnonzero(found.group >= 0).tolist() == members and found.group.max() == 0
    assert np.flatnonzero(~found.kept).tolist() == members[1:]
    np.testing.assert_allclose(found.similarity, 1, atol=1e-6)


def test_chains_are_one_group_and_groups_are_numbered_by_their_first_image():
    angles = np.deg2rad([200, 0, 100, 8, 16, 101])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = duplicates(x, np.cos(np.deg2rad(10)))
    assert found.group.tolist() == [-1, 0, 1, 0, 0, 1]
    assert found.kept.tolist() == [True, True, True, False, False, False]
    np.testing.assert_allclose(found.similarity[[3, 4]], np.cos(angles[[3, 4]]), atol=1e-6)


def test_one_image_has_no_others():
    x = rows(0, 1)
    nearest, who = others(x, 5)
    assert nearest.shape == who.shape == (1, 0)
    found = near_duplicates(nearest, who, x, 0.9)
    assert found.group.tolist() == [-1] and found.kept.all()
    assert remoteness(nearest).tolist() == [0]
    assert diverse_subset(x, 1).tolist() == [0]


@pytest.mark.parametrize(
    ("sizes", "total", "shares"),
    [
        ([5, 5, 5], 7, [2, 2, 3]),
        ([1, 10, 3], 9, [1, 5, 3]),
        ([0, 4], 4, [0, 4]),
        ([2, 3], 5, [2, 3]),
        ([4, 4], 0, [0, 0]),
    ],
)
def test_shares_are_even(sizes, total, shares):
    assert even_shares(np.array(sizes), total).tolist() == shares


def test_levels_have_a_tenth_each():
    assert level_sizes(1) == [1] and level_sizes(150) == [15] and level_sizes(199) == [19]
    assert level_sizes(2500) == [250, 25, 2]
    assert level_sizes(10**8)[:2] == [10_000, 1000]


def concepts():
    """Three concepts with 400, 60 and 20 images."""
    concept = np.repeat(np.arange(3), (400, 60, 20))
    noise = 0.1 * np.random.RandomState(0).randn(480, 8)
    return concept, (np.eye(3, 8)[concept] + noise).astype(np.float32)


def test_subset_is_more_even_than_the_data():
    concept, x = concepts()
    chosen = diverse_subset(x, 60)
    assert len(chosen) == len(set(chosen)) == 60 and (np.diff(chosen) > 0).all()
    assert np.bincount(concept[chosen]).min() >= 10  # by chance 2 or 3
    np.testing.assert_array_equal(chosen, diverse_subset(x, 60))


def test_all_can_be_the_subset():
    _, x = concepts()
    assert diverse_subset(x, 480).tolist() == list(range(480))


def test_each_level_clusters_the_one_below():
    concept, x = concepts()
    low, high = hierarchy(x, [48, 4])
    assert low.shape == (480,) and high.shape == (48,)
    for level, clusters in ((low, 48), (high, 4)):
        assert set(level) == set(range(clusters))
    for cluster in range(4):  # no cluster of the top mixes concepts
        assert len(set(concept[high[low] == cluster])) == 1


def test_whitening_sets_apart_what_all_images_share():
    """Images that differ in a thousandth of their features, and a slightly changed copy of one."""
    x = 30 + np.random.RandomState(0).rand(40, 32).astype(np.float32)
    x = np.concatenate([x, x[7:8] + 0.003 * rows(1, 1, 32)])
    assert others(x, 1)[0].min() > 0.999
    z = whitened(x)
    assert z.shape == (41, 16)
    np.testing.assert_allclose(np.cov(z.T), np.eye(16), atol=1e-3)
    found = duplicates(z, 0.95)
    assert np.flatnonzero(found.group >= 0).tolist() == [7, 40]
    np.testing.assert_array_equal(whitened(x[:9]), x[:9])


def test_outliers_are_found_without_their_copies_and_by_whitened_features():
    """Images that differ in a thousandth of their features; one differs more, and has a copy."""
    x = 30 + np.random.RandomState(0).rand(40, 32).astype(np.float32)
    x[5] += rows(1, 1, 32)[0]
    x = np.concatenate([x, x[5:6]])
    alike, far = duplicates_and_outliers(x, 10, 0.95)
    assert np.flatnonzero(alike.group >= 0).tolist() == [5, 40]
    assert sorted(far.number) == list(range(40)) and (np.diff(far.score) <= 0).all()
    z = whitened(x)[:40]
    distance, _ = NearestNeighbors(n_neighbors=10, metric="cosine").fit(z).kneighbors()
    np.testing.assert_array_equal(far.number, np.argsort(-distance.mean(axis=1), kind="stable"))


def test_a_large_group_looks_like_a_chain():
    angles = np.deg2rad(5 * np.arange(30))  # each is like the next one
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert duplicates(x, np.cos(np.deg2rad(6))).chained == 30
    assert duplicates(x, np.cos(np.deg2rad(4))).chained == 0
    assert duplicates(x[:10], np.cos(np.deg2rad(6))).chained == 0  # ten copies are no surprise
