"""A folder of images, with or without a subfolder for each class."""

import os
from collections.abc import Iterator

from swav_jax.data.sources.files import open_files
from swav_jax.data.sources.formats import suffix_of, trusted_formats, trusted_suffixes
from swav_jax.data.sources.labels import labels_by_folder
from swav_jax.data.sources.listing import list_images, say_left_out
from swav_jax.data.sources.names import printable
from swav_jax.data.sources.pixels import Pixels
from swav_jax.data.sources.source import DataError, MissingSplit, Source
from swav_jax.data.sources.splits import is_held_out, is_train


def open_folder(data_dir: str, split: str, pixels: Pixels) -> Source:
    """The images below a split's folder; without a folder `train`, all images are `train`.

    Raises:
      MissingSplit: there is no folder for this split.
      DataError: no images; a folder that cannot be listed; images of another split among them.
    """
    top, inner = os.fsencode(data_dir), os.path.normpath(split)
    if not os.path.isdir(top):
        raise DataError(
            f"there is no folder {data_dir!r}: set data.data_dir, or eval.data_dir, to a folder of "
            "images (with or without class subfolders)"
        )
    root = top if inner == "." else os.path.join(top, os.fsencode(inner))
    if not os.path.isdir(root):
        _refuse_to_guess(top, split)
        root = top
    names, left_out = list_images(root)
    shown = printable(root)
    if not names:
        found = f"; left out: {say_left_out(left_out)}" if left_out else ""
        raise DataError(
            f"no image in {shown}{found}. Name a folder with images in it or in its subfolders "
            f"({', '.join(trusted_formats())} or a rarer format)"
        )
    if os.path.basename(split) != "." and not is_held_out(inner):
        _refuse_held_out(names, root, whole=root == top or not is_train(inner))

    labels = labels_by_folder(names)
    notes = [f"left out of {shown}: {say_left_out(left_out)}"] if left_out else []
    notes += [f"{shown}: {labels.note}"] if labels.note else []
    if root != top and not is_held_out(inner):
        notes += _beside(top, inner)

    return open_files(root, names, labels, notes, pixels)


def _refuse_to_guess(top: bytes, split: str) -> None:
    """Of a folder without the wanted split, says which others it has; all may only be `train`."""
    folders = sorted(printable(name) for name in _subfolders(top))
    train = [name for name in folders if is_train(name)]
    held_out = [name for name in folders if is_held_out(name)]
    if split != "train":
        near = held_out if is_held_out(split) else train or held_out
        # Sections data and eval both name splits. Of eval, test counts in any case.
        flag = f": --config.eval.test={near[0]}" if near and is_held_out(split) else ""
        hint = f" (it has {', '.join(near)}{flag})" if near else ""
        raise MissingSplit(f"there is no folder {split!r} in {printable(top)}{hint}")
    if train or held_out:
        flags = [f"--config.data.train={train[0]}"] if train else []
        flags += [f"--config.data.test={held_out[0]}"] if held_out else []
        raise DataError(
            f"{printable(top)} has {', '.join(sorted({*train, *held_out}))} but no 'train': name "
            f"the folders of the training and of the test images, like {' '.join(flags)}; "
            "--config.data.train=. reads them all"
        )


def _refuse_held_out(names: list[bytes], root: bytes, whole: bool) -> None:
    """Refuses folders of validation or test images among those to train on.

    Args:
      names: of the images, relative to the root.
      root: of the folder that is read.
      whole: whether the root is no folder of training images by its name. In one that is, classes
        may be called anything, but not just `test`.
    """
    folders = {name.rpartition(b"/")[0] for name in names}
    for part in sorted({part for folder in folders for part in folder.split(b"/")}):
        if is_held_out(text := printable(part), wholly=not whole):
            where = min(folder for folder in folders if part in folder.split(b"/"))
            raise DataError(
                f"{printable(os.path.join(root, where))}: images of {text!r} would be trained on. "
                "Name the folder of the training images by --config.data.train, as a path within "
                f"--config.data.data_dir; or, to train on {text!r} too, end that path with /. "
                "(--config.data.train=. for all of data.data_dir)"
            )


def _beside(top: bytes, split: str) -> Iterator[str]:
    """A note of what lies beside the splits and is not read."""
    used = os.fsencode(split.split("/")[0])
    folders = sorted(printable(name) for name in _subfolders(top) if name != used)
    others = [name for name in folders if not is_train(name) and not is_held_out(name)]
    images = sum(suffix_of(name) in trusted_suffixes() for name in os.listdir(top))
    unused = others[:5] + ["..."] * (len(others) > 5)
    unused += [f"{images} images beside them"] if images else []
    if unused:
        yield f"of {printable(top)} only {split} is trained on, not {', '.join(unused)}"


def _subfolders(top: bytes) -> list[bytes]:
    with os.scandir(top) as entries:
        return [e.name for e in entries if e.is_dir() and not e.name.startswith(b".")]
