import numpy as np
import pytest

from swav_jax.data import index


def test_epoch_order_is_a_permutation_that_never_changes():
    order = index.epoch_order(7, 3, 1000)
    assert sorted(order) == list(range(1000))
    np.testing.assert_array_equal(order, index.epoch_order(7, 3, 1000))
    # numpy promises this stream for ever; a changed number means that runs no longer resume.
    assert index.epoch_order(0, 0, 10).tolist() == [3, 7, 6, 4, 1, 0, 2, 8, 5, 9]
    assert not np.array_equal(order, index.epoch_order(7, 4, 1000))
    assert not np.array_equal(order, index.epoch_order(8, 3, 1000))


def test_hosts_share_every_global_batch_in_order():
    whole = index.batch_indices(None, 23, 6, seed=1)
    parts = [index.batch_indices(None, 23, 6, process, 3, seed=1) for process in range(3)]
    for step in (0, 1, 2, 3, 4, 11, 2):
        epoch, images, draws = whole(step)
        assert epoch == step // 3  # 23 // 6 = 3 steps an epoch
        np.testing.assert_array_equal(images, np.concatenate([part(step)[1] for part in parts]))
        np.testing.assert_array_equal(images, index.epoch_order(1, epoch, 23)[step % 3 * 6 :][:6])
        assert not draws.any()


def test_an_order_may_be_given():
    indices = index.batch_indices(lambda epoch: np.full(6, epoch), 7, 3)
    assert [indices(step)[1].tolist() for step in (1, 2)] == [[0, 0, 0], [1, 1, 1]]


def test_repeated_draws_are_counted():
    assert index.earlier(np.array([5, 2, 5, 5, 0, 2])).tolist() == [0, 0, 1, 2, 0, 1]
    order = np.array([4, 1, 4, 4, 1, 0])
    indices = index.batch_indices(lambda _: order, 7, 2, process=1, processes=2)
    assert [int(indices(step)[2][0]) for step in (0, 1, 2)] == [0, 2, 0]


@pytest.mark.parametrize(
    ("order", "message"), [(np.zeros(5, int), "an epoch needs 6"), (np.full(6, 7), "outside 0..6")]
)
def test_a_wrong_order_is_refused(order, message):
    with pytest.raises(ValueError, match=message):
        index.batch_indices(lambda _: order, 7, 3)(0)


def test_batches_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fill one batch of 8"):
        index.steps_per_epoch(7, 8)
    with pytest.raises(ValueError, match="does not divide among 3 processes"):
        index.process_rows(8, 0, 3)
