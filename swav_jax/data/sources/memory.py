"""Images in memory."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from swav_jax.data.sources.source import Source, Tensor


def open_arrays(images: Sequence[UInt8[np.ndarray, "_H _W 3"]]) -> Source:
    """Images as they are, of any sizes; without labels."""

    def read(i: Tensor) -> Tensor:
        from swav_jax.data.tf import python_function, tf

        image = python_function(lambda i: images[i], [i], tf.uint8, stateful=False)
        return tf.ensure_shape(image, [None, None, 3])

    shapes = [image.shape[:2] for image in images]
    return Source(
        size=len(images),
        class_names=(),
        describe=lambda i: f"image {i}",
        read=read,
        decode=lambda i: images[i],
        shape=shapes[0] if len(set(shapes)) == 1 else None,
        area=sum(map(math.prod, shapes)) / len(shapes) if shapes else 0.0,
        may_fail=False,
        find_labels=lambda: None,
        lasting=False,
        identity=lambda: (image.tobytes() for image in images),
    )
