from concurrent.futures import ThreadPoolExecutor

import numpy as np

from swav_jax.data.batch_arrays import BatchArrays


def test_arrays_hold_what_threads_filled_in_their_rows():
    arrays = BatchArrays([(6, 2), (6, 3, 1)])

    def fill(part):
        for array in arrays.rows(part * 2, 2):
            array[:] = part

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(fill, range(30)))
    for step in range(10):
        flat, deep = arrays.take(step)
        rows = 3 * step + np.arange(3).repeat(2)
        np.testing.assert_array_equal(flat, np.broadcast_to(rows[:, None], (6, 2)))
        np.testing.assert_array_equal(deep, np.broadcast_to(rows[:, None, None], (6, 3, 1)))


def test_memory_is_used_again_when_no_part_of_an_array_is_held():
    arrays = BatchArrays([(4, 8)])

    def taken(step):
        (rows,) = arrays.rows(4 * step, 4)
        rows[:] = step
        del rows
        return arrays.take(step)[0]

    first = taken(0)
    address, part = first.ctypes.data, first[1:].T[3:][2]
    assert address % 64 == 0
    del first
    assert taken(1).ctypes.data != address
    np.testing.assert_array_equal(part, [0, 0, 0])
    del part
    assert address in [one.ctypes.data for one in [taken(2), taken(3)]]
