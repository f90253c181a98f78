import jax.numpy as jnp
import numpy as np

from swav_jax.ops import queue


def test_newest_rows_come_first_and_the_oldest_leave():
    memory = jnp.zeros((1, 4, 1))
    for batch in ([1, 2], [3, 4], [5, 6]):
        memory = queue.push(memory, jnp.array(batch, jnp.float32)[None, :, None])
    np.testing.assert_array_equal(memory[0, :, 0], [5, 6, 3, 4])
