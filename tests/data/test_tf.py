import gc
import weakref

import numpy as np

from swav_jax.data import batches as batches_lib
from swav_jax.data.batches import eval_batches, train_batches
from swav_jax.data.sources.memory import open_arrays
from swav_jax.data.tf import python_function, tf


def test_images_in_memory_are_freed_with_their_last_pass():
    image = np.zeros((9, 9, 3), np.uint8)
    source = open_arrays([image, image])
    passes = eval_batches(source, 2, resize=8, crop=8)
    assert next(passes).valid.all()
    alive = weakref.ref(image)
    del image, source, passes
    gc.collect()
    assert alive() is None


def test_arrays_of_batches_are_freed_with_their_pipeline(monkeypatch):
    made = []

    class Watched(batches_lib.BatchArrays):
        def __init__(self, shapes):
            super().__init__(shapes)
            made.append(weakref.ref(self))

    monkeypatch.setattr(batches_lib, "BatchArrays", Watched)
    source = open_arrays([np.zeros((9, 9, 3), np.uint8)] * 4)
    batches = train_batches(source, ((2, 8, 0.5, 1.0),), 2, seed=0)
    next(batches)
    del batches
    gc.collect()
    assert [alive() for alive in made] == [None]


def test_a_function_of_a_branch_lives_as_long_as_the_data_set():
    def branch(i):
        return tf.cond(i > 0, lambda: python_function(lambda i: i + 1, [i], tf.int64), lambda: i)

    data = tf.data.Dataset.range(3).map(branch)
    gc.collect()
    assert list(data.as_numpy_iterator()) == [0, 2, 3]


def test_outside_of_a_data_set_it_is_called_at_once():
    found = python_function(lambda i: i + 1, [tf.constant(1, tf.int64)], tf.int64)
    assert int(found) == 2
