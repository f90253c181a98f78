import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
