import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import entropy

from swav_jax.evals import quality as module
from swav_jax.evals.quality import alpha, quality, rankme, uniformity


def with_spectrum(eigenvalues, images):
    """Centred features whose covariance has these eigenvalues, up to a factor."""
    rng = np.random.default_rng(0)
    width = len(eigenvalues)
    rows = rng.normal(size=(images, width))
    rows -= rows.mean(axis=0)
    left, _, right = np.linalg.svd(rows, full_matrices=False)
    return ((left * np.sqrt(eigenvalues)) @ right).astype(np.float32)


def test_rankme_is_the_exponential_of_the_singular_values_entropy():
    features = np.random.default_rng(0).normal(size=(40, 7)) * np.arange(1, 8)
    singular = np.linalg.svd(features, compute_uv=False)
    for rows in (features, features.T, features.astype(np.float32)):
        assert rankme(rows) == pytest.approx(np.exp(entropy(singular)), rel=1e-4)


def test_rankme_counts_even_directions_and_finds_a_collapse():
    even = np.concatenate([np.eye(5)] * 3)
    assert rankme(even) == pytest.approx(5, rel=1e-4)
    assert rankme(np.ones((20, 8))) == pytest.approx(1, rel=1e-4)
    assert rankme(np.zeros((20, 8))) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("decay", [0.5, 1.0, 2.0])
def test_alpha_is_the_exponent_of_a_power_law(decay):
    features = with_spectrum(np.arange(1, 201.0) ** -decay, images=300)
    assert alpha(features + 3) == pytest.approx(decay, abs=0.01)


def test_alpha_weighs_low_ranks_as_the_published_fit():
    values = np.exp(-np.arange(1, 121) / 40)  # no power law: the weights matter
    k = np.arange(11, 61)
    weighted = np.stack([-np.log(k), np.ones(50)], axis=1) / k[:, None]
    x = np.stack([-np.log(k), np.ones(50)], axis=1)
    expected, _ = np.linalg.solve(x.T @ weighted, weighted.T @ np.log(values[k - 1]))
    assert alpha(with_spectrum(values, images=200)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("held", [10**6, 7 * 50, 1])  # at once: all, seven rows, one
def test_uniformity_is_that_of_all_pairs(held, monkeypatch):
    monkeypatch.setattr(module, "SIMILARITIES", held)
    features = np.random.default_rng(0).normal(size=(50, 6))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = np.log(np.mean(np.exp(-2 * pdist(unit) ** 2)))
    assert uniformity(7 * features) == pytest.approx(expected)
    assert uniformity(np.ones((9, 3))) == pytest.approx(0)


def test_too_little_is_no_number_and_no_error():
    assert quality(np.ones((1, 4)))["rankme"] == pytest.approx(1, rel=1e-4)
    assert np.isnan(quality(np.ones((1, 4)))["uniformity"])
    assert np.isnan(quality(np.random.default_rng(0).normal(size=(30, 16)))["alpha"])
    assert np.isnan(quality(np.ones((100, 64)))["alpha"])


def test_uniformity_of_many_images_holds_some_similarities_at_once():
    features = np.random.default_rng(0).normal(size=(6000, 2))  # of all pairs 288 MB
    tracemalloc.start()
    uniformity(features)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5 * 8 * module.SIMILARITIES
