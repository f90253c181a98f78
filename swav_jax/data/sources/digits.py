"""scikit-learn's bundled digits: 1,797 handwritten ones, in memory."""

import numpy as np
from PIL import Image

from swav_jax.data.sources.source import MissingSplit, Source, Tensor

DIGITS_TRAIN = 1500  # of 1,797; the other 297 are the test split


def open_digits(split: str) -> Source:
    """The digits of `train` or `test`, as 32-pixel images."""
    from sklearn.datasets import load_digits

    if split not in ("train", "test"):
        raise MissingSplit(f"the digits have the splits train and test, not {split!r}")
    order = np.random.RandomState(0).permutation(1797)
    chosen = order[:DIGITS_TRAIN] if split == "train" else order[DIGITS_TRAIN:]
    digits = load_digits()
    small = (digits.images[chosen] * (255 / 16)).astype(np.uint8)  # 8x8, grey levels 0..16
    images = np.stack(
        [np.asarray(Image.fromarray(x).resize((32, 32), Image.Resampling.BILINEAR)) for x in small]
    )
    images = np.repeat(images[..., None], 3, axis=-1)
    labels = digits.target[chosen].astype(np.int32)

    def read(i: Tensor) -> Tensor:
        from swav_jax.data.tf import tf

        return tf.gather(tf.constant(images), i)

    return Source(
        size=len(chosen),
        class_names=tuple(str(d) for d in range(10)),
        describe=lambda i: f"digit {chosen[i]}",
        read=read,
        decode=lambda i: images[i],
        shape=(32, 32),
        may_fail=False,
        find_labels=lambda: labels,
        identity=lambda: (f"digits {split}".encode(),),
    )
