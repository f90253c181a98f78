"""Images of one size in one NumPy file, such as CIFAR-10 on a machine without TensorFlow."""

import os
import zipfile
import zlib

import numpy as np

from swav_jax.data.sources.source import DataError, MissingSplit, Source, Tensor

LABELS, CLASSES = "_labels", "class_names"  # the first after a split's name


def open_packed(path: str, split: str) -> Source:
    """A split of an `.npz` file, which is read as a whole.

    The file holds images, uint8 [N, H, W, 3], under the split's name. It may hold labels under that
    name with `_labels`, integers [N], negative ones for images without a label, and `class_names`;
    without names, classes are called by their numbers.

    Raises:
      MissingSplit: the file has no such split.
      DataError: it is no such file.
    """
    path = os.path.abspath(path)  # what tables call an image is found from any folder
    try:
        when = os.stat(path).st_mtime_ns
        with np.load(path) as file:
            splits = [name for name in file if name != CLASSES and not name.endswith(LABELS)]
            wanted = (split, split + LABELS, CLASSES)
            arrays = {name: file[name] for name in wanted if name in file}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path!r} is no .npz file of images: {error}") from error
    if split not in splits:
        raise MissingSplit(f"{path} has no images {split!r}; it has {', '.join(splits) or 'none'}")
    images, labels = arrays[split], arrays.get(split + LABELS)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
        raise DataError(
            f"{split!r} of {path} is {images.dtype} {list(images.shape)}; images are uint8 "
            "[N, H, W, 3]"
        )
    if labels is not None:
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise DataError(
                f"{split + LABELS!r} of {path} is {labels.dtype} {list(labels.shape)}; labels are "
                f"integers [{len(images)}]"
            )
        names = arrays.get(CLASSES, np.arange(labels.max() + 1))
        if labels.max() >= len(names):
            raise DataError(
                f"{split + LABELS!r} of {path} has the label {labels.max()}, and class_names are "
                f"{len(names)}: the first is number 0"
            )
        labels = labels.astype(np.int32)

    def read(i: Tensor) -> Tensor:
        from swav_jax.data.tf import python_function, tf

        image = python_function(lambda i: images[i], [i], tf.uint8, stateful=False)
        return tf.ensure_shape(image, images.shape[1:])

    return Source(
        size=len(images),
        class_names=() if labels is None else tuple(map(str, names)),
        describe=lambda i: f"{path} {split} {i}",
        read=read,
        decode=lambda i: images[i],
        shape=images.shape[1:3],
        may_fail=False,
        find_labels=lambda: labels,
        changed=lambda _: when,
        identity=lambda: (image.tobytes() for image in images),
    )
