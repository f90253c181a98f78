import pytest

from swav_jax.methods import contract

RUN = contract.Sizes(size=1005, batch_size=100, views=2, steps_per_epoch=10, total_steps=100)


def test_clusters_of_few_images_are_warned_of_and_more_than_images_refused():
    assert contract.check_clusters(100, RUN) == []
    (warning,) = contract.check_clusters(101, RUN)
    assert "clusters of 9.9 images" in warning and "Something like 50" in warning
    with pytest.raises(ValueError, match="1001 exceeds the 1000 images"):
        contract.check_clusters(1001, RUN)


@pytest.mark.parametrize("crops", [(), (2,), (-1, 0)])
def test_assignment_crops_must_be_crops(crops):
    with pytest.raises(ValueError, match="must name crops from 0 to 1"):
        contract.check_assignment_crops(crops, RUN)
