import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from swav_jax import sharding
from swav_jax.ops import bank


def test_padding_does_not_depend_on_devices():
    assert [bank.padded(n) for n in (1, 3840, 3841, 1_281_167)] == [3840, 3840, 7680, 1_290_240]
    for devices in (1, 2, 4, 6, 8, 24, 64, 256):
        bank.check_devices(devices, 50_000)
    with pytest.raises(ValueError, match="use 6 of them"):
        bank.check_devices(7, 50_000)
    bank.check_devices(4096, 1_281_167)


@pytest.mark.parametrize("shape", [None, (8, 1), (4, 2)])
def test_batches_are_written_and_looked_up_by_image(shape):
    rng = np.random.RandomState(0)
    before = rng.normal(size=(2, 48, 3)).astype(np.float32)
    rows = rng.normal(size=(16, 2, 3)).astype(np.float32)
    index = np.append(rng.permutation(48)[:14], [48, np.iinfo(np.int32).max]).astype(np.int32)
    assignments = rng.randint(-1, 9, size=(3, 48)).astype(np.int32)

    expected = before.copy()
    expected[:, index[:14]] = rows[:14].swapaxes(0, 1)

    def check():
        written = jax.jit(bank.write)(before, index, rows)
        np.testing.assert_array_equal(written, expected)
        found = jax.jit(bank.lookup)(assignments, index)
        np.testing.assert_array_equal(found[:, :14], assignments[:, index[:14]])
        return written

    if shape is None:
        check()
        return
    with jax.set_mesh(sharding.make_mesh(shape[1])):
        assert check().sharding.spec == sharding.MEMORY


def test_unwritten_rows_are_known():
    rows = bank.empty(2, 3, 10, 4, jnp.float32)["bank"].at[0, 5, 2].set(-0.1)
    written = np.asarray(bank.written(rows))
    assert written[0, 5] and written.sum() == 1


def test_cross_entropy_leaves_out_images_without_a_cluster():
    logits = np.random.RandomState(1).normal(size=(3, 2, 5))
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    loss, accuracy = bank.cross_entropy(jnp.asarray(logits, jnp.float32), jnp.array([4, -1, 0]))
    np.testing.assert_allclose(loss, -(log_p[0, :, 4] + log_p[2, :, 0]).mean() / 2, rtol=1e-6)
    hits = (logits[0].argmax(-1) == 4).sum() + (logits[2].argmax(-1) == 0).sum()
    np.testing.assert_allclose(accuracy, hits / 4)
    nothing = bank.cross_entropy(jnp.asarray(logits, jnp.float32), jnp.full(3, -1))
    assert nothing == (0, 0)


def test_usage_counts_clusters_with_images():
    assignments = jnp.array([[0, 0, 0, 1, -1], [3, 2, 1, 0, 0]])
    usage = bank.usage(assignments, 4)
    np.testing.assert_allclose(usage["clusters_used"], (0.5 + 1) / 2)
    np.testing.assert_allclose(usage["largest_cluster"], (3 / 4 + 2 / 5) / 2)


def test_balanced_order_is_uniform_over_clusters_and_over_their_images():
    clusters = np.random.RandomState(2).permutation(np.repeat([0, 2, 7, -1], [100, 40, 5, 15]))
    draws = np.concatenate(
        [bank.balanced_order(clusters, 160, np.random.RandomState([0, e])) for e in range(50)]
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
    counts = np.bincount(bank.balanced_order(clusters, 100, np.random.RandomState(0)))
    assert sorted(counts[97:]) in ([16, 17, 17], [16, 16, 17], [16, 16, 18])
    assert counts[:97].max() == 1
