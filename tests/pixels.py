"""Small images for tests of the sources, encoded to bytes and read back."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from swav_jax.data.tf import as_written

SMOOTH = np.asarray(
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (5, 7, 3), np.uint8)).resize((35, 25))
)
RGB = Image.fromarray(SMOOTH)


def encoded(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def read(source, i):
    """Within a graph, as the pipeline does."""
    number = tf.data.Dataset.from_tensors(np.int64(i))
    return number.map(as_written(source.read)).get_single_element().numpy()
