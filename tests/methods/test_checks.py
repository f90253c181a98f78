import pytest

from swav_jax.methods import checks
from swav_jax.methods.contract import Sizes

RUN = Sizes(size=1005, batch_size=100, views=2, steps_per_epoch=10, total_steps=100)


def test_clusters_of_few_images_are_warned_of_and_more_than_images_refused():
    assert RUN.images_per_epoch == 1000
    assert checks.clusters(100, 1000) == []
    (warning,) = checks.clusters(101, 1000)
    assert "clusters of 9.9 images" in warning and "Something like 50" in warning
    with pytest.raises(ValueError, match=r"1001 exceeds the 1000 images .* at most 1000"):
        checks.clusters(1001, 1000)


def test_several_clusters_for_each_prototype_are_counted():
    assert checks.clusters(25, 1000, multiple=4) == []
    with pytest.raises(ValueError, match=r"251 x method\.granularity 4 exceeds .* at most 250"):
        checks.clusters(251, 1000, multiple=4)


@pytest.mark.parametrize("crops", [(), (2,), (-1, 0)])
def test_assignment_crops_must_be_crops(crops):
    with pytest.raises(ValueError, match="must name crops from 0 to 1"):
        checks.assignment_crops(crops, RUN)


def test_a_first_phase_ends_before_the_training():
    """A trial may end within it, with a warning."""
    trial = RUN._replace(total_steps=10, epochs_steps=100)
    assert checks.first_phase("method.x 9", 9, trial, "nothing moves") == []
    (warning,) = checks.first_phase("method.x 10", 10, trial, "nothing moves")
    assert "method.x 10 lasts 10 steps" in warning and "nothing moves" in warning
    (warning,) = checks.first_phase("method.x 100", 100, RUN, "nothing moves")
    assert "ends after 100: nothing moves" in warning
    with pytest.raises(ValueError, match="lasts 100 steps, the training 100: nothing moves"):
        checks.first_phase("method.x 100", 100, RUN, "nothing moves", after=1)
    with pytest.raises(ValueError, match="lasts 101 steps, the training 100: nothing moves"):
        checks.first_phase("method.x 101", 101, RUN, "nothing moves")
