import jax

from swav_jax.data.batch import batch_shapes
from swav_jax.data.batches import train_batches
from swav_jax.data.sources import open_source


def test_batches_have_the_shapes_that_are_promised():
    crops = ((2, 16, 0.4, 1.0), (3, 8, 0.1, 0.4))
    batch = next(train_batches(open_source("digits", "", "test"), crops, 6, seed=0))
    promised = batch_shapes(crops, 6)
    assert jax.tree.structure(batch) == jax.tree.structure(promised)
    for rows, shape in zip(jax.tree.leaves(batch), jax.tree.leaves(promised), strict=True):
        assert (rows.shape, rows.dtype) == (shape.shape, shape.dtype)
