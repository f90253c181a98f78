import numpy as np
import pytest

from swav_jax.pages.map import embedded


def test_groups_stay_together():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 20))
    groups = np.repeat(np.arange(3), 30)
    points = embedded((centres[groups] + 0.1 * rng.normal(size=(90, 20))).astype(np.float32))
    assert points.shape == (90, 2) and points.min() >= 0 and points.max() <= 1
    means = np.stack([points[groups == g].mean(axis=0) for g in range(3)])
    assert (np.linalg.norm(points[:, None] - means, axis=-1).argmin(axis=1) == groups).all()


@pytest.mark.parametrize("features", [np.ones((50, 8)), np.zeros((50, 8)), np.eye(4)])
def test_nothing_to_see(features):
    assert embedded(features.astype(np.float32)) is None


def test_few_points_of_one_feature():
    assert embedded(np.array([[1.0], [-1.0], [2.0], [-3.0], [1.0]], np.float32)).shape == (5, 2)
