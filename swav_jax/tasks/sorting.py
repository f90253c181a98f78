"""Images sorted into a folder for each cluster, as copies or links."""

import filecmp
import itertools
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from swav_jax.answers import Found
from swav_jax.config import ConfigError
from swav_jax.data.sources.source import Source
from swav_jax.runtime.progress import progress

CLUSTERS = "clusters.csv"  # in the folder: what its images were sorted by
PARTIAL = ".partial"  # in the folder: a file that is not whole yet, whatever its name will be
LONGEST_NAME = 255  # bytes of a file's name, on nearly all file systems


def check_folder(folder: str, source: Source, data_dirs: Collection[str]) -> None:
    """Checks, before anything is computed, that images can be sorted into a folder.

    Args:
      folder: to sort into.
      source: the images.
      data_dirs: where images are looked for.

    Raises:
      ConfigError: the images are not files, or their copies would be found with them next time, or
        nobody has sorted what is in the folder.
      OSError: the folder cannot be made, or not be written to.
    """
    if source.path is None:
        raise ConfigError(
            f"eval.sort_into sorts files, and {source.describe(0)} is none: clusters.csv says "
            "which cluster it is in"
        )
    top = Path(folder).expanduser()
    for data_dir in map(Path, filter(os.path.isdir, map(os.path.expanduser, data_dirs))):
        if top.resolve().is_relative_to(data_dir.resolve()):
            raise ConfigError(
                f"eval.sort_into: {top} lies in {data_dir}, where copies would be taken for more "
                "images: name a folder outside"
            )
    top.mkdir(parents=True, exist_ok=True)
    if not os.access(top, os.W_OK):
        raise PermissionError(f"eval.sort_into: {top} cannot be written to")
    if (there := _names(top)) and CLUSTERS not in there:
        raise _other(top, there)


def sort_into(folder: str, found: Found, *, by: str) -> None:
    """Copies or links each image into the folder of its cluster, with `clusters.csv` beside these.

    Nothing is overwritten: images of one name get a number. Done again, it goes on.

    Args:
      folder: to sort into: new, or of the same clusters.
      found: the clusters of images that are files.
      by: `copy` or `link`.

    Raises:
      ConfigError: the folder is of other clusters.
      OSError: a file cannot be written.
    """
    top, source = Path(folder).expanduser(), found.rows.source
    assert source.path is not None  # `check_folder` has checked
    _claim(top, found)
    digits = len(str(found.sizes[0] - 1))
    clusters = found.clusterings[0].cluster
    with progress(f"sorting {len(clusters)} images", len(clusters)) as now:
        for done, (number, cluster) in enumerate(zip(found.rows.numbers, clusters, strict=True)):
            below = top / f"{cluster:0{digits}}"
            below.mkdir(exist_ok=True)
            _put(Path(os.fsdecode(os.path.abspath(source.path(int(number))))), below, by)
            now(done + 1)


def _claim(top: Path, found: Found) -> None:
    """Writes the clusters into a folder, if there are no others."""
    mine, partial = top / CLUSTERS, top / PARTIAL
    partial.unlink(missing_ok=True)
    there = _names(top)
    found.table().to_csv(partial)
    if there and not (mine.exists() and filecmp.cmp(partial, mine, shallow=False)):
        partial.unlink()
        raise _other(top, there)
    partial.replace(mine)


def _names(top: Path) -> list[str]:
    return sorted(path.name for path in top.iterdir() if path.name != PARTIAL)


def _other(top: Path, there: list[str]) -> ConfigError:
    return ConfigError(
        f"eval.sort_into: {top} holds {there[0]}{' and others' * (len(there) > 1)}, sorted by "
        "other clusters or by somebody else. Name a new folder"
    )


def _put(image: Path, folder: Path, by: str) -> None:
    for number in itertools.count(1):
        place = folder / (_numbered(image, number) if number > 1 else image.name)
        if by == "link" and not os.path.lexists(place):
            place.symlink_to(image)
            return
        if by == "copy" and not os.path.lexists(place):
            partial = folder.with_name(PARTIAL)
            shutil.copy2(image, partial)
            partial.replace(place)
            return
        if os.path.realpath(place) == os.path.realpath(image) or (
            by == "copy" and filecmp.cmp(place, image, shallow=False)
        ):
            return


def _numbered(image: Path, number: int) -> str:
    """The file's name with a number, its stem cut to where the name is not too long."""
    stem, end = image.stem, f"_{number}{image.suffix}"
    while stem and len(os.fsencode(stem + end)) > LONGEST_NAME:
        stem = stem[:-1]
    return stem + end
