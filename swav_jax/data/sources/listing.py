"""The names of all images below a folder, and what is left out of them and why.

Names are bytes, as the disk has them: they need not be UTF-8, whatever the shell's language.
"""

import errno
import heapq
import json
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from swav_jax.data.sources import cache
from swav_jax.data.sources.formats import readable, suffix_of, trusted_suffixes, why_no_image
from swav_jax.data.sources.names import printable
from swav_jax.data.sources.source import DataError

CACHE_NAMES = 100_000  # a list of at least this many files is kept for the next time
SETTLED_SECONDS = 2.0  # a folder that changed later than this may change again in the same tick
MADE_BY_SYSTEMS = frozenset(
    (b"__MACOSX", b"@eaDir", b"lost+found", b"$RECYCLE.BIN", b"System Volume Information")
)
ALREADY_READ = "link to a folder that is read already"
DANGLING, EMPTY, NOT_OPENED = "link to nothing", "empty", "cannot be opened"
PASSING = (DANGLING, EMPTY, NOT_OPENED)  # reasons that may go without a change of the folder

LeftOut = Counter[tuple[str, str]]  # (suffix of files or name of a folder, reason) to how many


class Listing(NamedTuple):
    """What a folder holds.

    Attributes:
      names: of the images, relative to the folder, sorted.
      left_out: everything else but folders that are read, by what and why.
    """

    names: list[bytes]
    left_out: LeftOut


class Folder(NamedTuple):
    """One folder's entries.

    Attributes:
      changed: when; "" if it must be read again next time.
      images: names, joined by null characters.
      folders: names of subfolders.
      links: names of links to folders.
      left_out: as in `Listing`.
    """

    changed: str
    images: bytes
    folders: list[bytes]
    links: list[bytes]
    left_out: LeftOut


def list_images(root: bytes) -> Listing:
    """Lists the images below a folder, following links; hidden files and folders are left out.

    Every folder is read once. One that several links lead to belongs where it really lies below the
    root, else to the link that is nearest to the root, and of those the first by name.

    A long list is kept: the next time only folders are read that have changed since, and after an
    interruption only those that are missing.

    Raises:
      DataError: a folder that cannot be listed.
    """
    root = os.path.realpath(root)
    known = _load(root)
    found: dict[bytes, Folder] = {}
    try:
        left_out = Counter((_folder(name), reason) for name, reason in _walk(root, known, found))
    except BaseException:
        _save(root, known | found)
        raise
    if found != known:
        _save(root, found)
    names = []
    for name, folder in found.items():
        start = name + b"/" if name else b""
        names += [start + image for image in folder.images.split(b"\0") if image]
        left_out.update(folder.left_out)
    names.sort()
    return Listing(names, left_out)


def _walk(
    root: bytes, known: dict[bytes, Folder], found: dict[bytes, Folder]
) -> Iterator[tuple[bytes, str]]:
    """Fills `found` with the folder and all below it; yields the links not followed, and why."""
    seen = set()
    above = root
    while (parent := os.path.dirname(above)) != above:
        above = parent
        seen.add(_identity(above, os.stat(above)))
    real, links = [b""], list[tuple[int, bytes]]()  # folders; a heap of links by depth and name
    while real or links:
        is_link = not real
        name = heapq.heappop(links)[1] if is_link else real.pop()
        path = os.path.join(root, name) if name else root
        try:
            status = os.stat(path)
            if _identity(path, status) in seen:
                yield name, ALREADY_READ
                continue
            seen.add(_identity(path, status))
            folder = known.get(name)
            changed = _changed(status)
            if folder is None or not changed or folder.changed != changed:
                folder = _read(path, changed)
        except OSError as error:
            if is_link and error.errno in (errno.ENOENT, errno.ENOTDIR):
                yield name, DANGLING  # it led somewhere when the kept list was made
                continue
            raise DataError(
                f"{printable(path)} cannot be listed ({error.strerror}), so it is not known which "
                "images are in it: make it readable, or move it out of the data set"
            ) from None
        found[name] = folder
        real += [os.path.join(name, sub) for sub in reversed(folder.folders)]
        for sub in folder.links:
            below = os.path.join(name, sub)
            heapq.heappush(links, (below.count(b"/"), below))


def _identity(path: bytes, status: os.stat_result) -> tuple[int, int | bytes]:
    """The same for two paths to one folder; some file systems number nothing."""
    return status.st_dev, status.st_ino or os.path.realpath(path)


def _changed(status: os.stat_result) -> str:
    """When a folder changed, or "" if that would not show another change soon.

    Copying programs set a folder's mtime back, but not its ctime. Some mounted buckets date no
    folders.
    """
    times = status.st_mtime_ns, status.st_ctime_ns
    settled = max(times) < (time.time() - SETTLED_SECONDS) * 1e9
    return f"{times[0]} {times[1]}" if settled and min(times) > 0 else ""


def _read(path: bytes, changed: str) -> Folder:
    """Reads one folder."""
    images, unknown, folders, links = [], [], [], []
    left_out: LeftOut = Counter()
    trusted = trusted_suffixes()
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(b"."):
                is_folder = entry.is_dir(follow_symlinks=False)
                left_out[_folder(name) if is_folder else _suffix(name), "hidden"] += 1
            elif name in MADE_BY_SYSTEMS:
                left_out[_folder(name), "made by the system"] += 1
            elif entry.is_dir(follow_symlinks=False):
                folders.append(name)
                if suffix_of(name) in trusted:
                    left_out[_folder(name), "no image, though named like one"] += 1
            elif reason := _why_no_file(entry):
                left_out[_suffix(name), reason] += 1
            elif entry.is_dir():
                links.append(name)
            elif suffix_of(name) in trusted:
                images.append(name)
            else:
                unknown.append(name)
    with ThreadPoolExecutor(16) as pool:  # the disk's latency is the cost, not the processor
        reasons = list(pool.map(_look_into, [os.path.join(path, name) for name in unknown]))
    for name, reason in zip(unknown, reasons, strict=True):
        if reason:
            left_out[_suffix(name), reason] += 1
        else:
            images.append(name)
    if any(reason.startswith(PASSING) for _, reason in left_out):
        changed = ""
    return Folder(changed, b"\0".join(images), sorted(folders), sorted(links), left_out)


def _why_no_file(entry: os.DirEntry[bytes]) -> str:
    """Why an entry is neither a file nor a folder, after following links; empty if it is one."""
    try:
        if entry.is_file() or entry.is_dir():
            return ""
        mode = entry.stat().st_mode
    except OSError as error:
        return DANGLING if entry.is_symlink() else f"{NOT_OPENED}: {error.strerror}"
    return "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"


def _look_into(path: bytes) -> str:
    try:
        return why_no_image(path)
    except OSError as error:
        return f"{NOT_OPENED}: {error.strerror}"


def _suffix(name: bytes) -> str:
    return printable(suffix_of(name)) or "without suffix"


def _folder(name: bytes) -> str:
    return f"folder {printable(name)}"


def say_left_out(left_out: LeftOut) -> str:
    """One line: `hidden (2 .jpg), no image (40 .xml, 1 without suffix)`."""
    by_reason: dict[str, list[str]] = {}
    for (what, reason), count in left_out.most_common():
        by_reason.setdefault(reason, []).append(f"{count} {what}")
    return ", ".join(f"{reason} ({_first(shown)})" for reason, shown in sorted(by_reason.items()))


def _first(shown: list[str], most: int = 5) -> str:
    others = len(shown) - most
    return ", ".join(shown[:most] + [f"{others} other kinds"] * (others > 0))


def _load(root: bytes) -> dict[bytes, Folder]:
    """The folders of a kept list; empty if none is kept, or it is damaged."""
    try:
        kept = json.loads(cache.load(_key(root)) or "{}")
        return {
            name.encode("latin-1"): Folder(
                changed,
                images.encode("latin-1"),
                [sub.encode("latin-1") for sub in folders],
                [sub.encode("latin-1") for sub in links],
                Counter({(what, reason): count for what, reason, count in left_out}),
            )
            for name, (changed, images, folders, links, left_out) in kept.items()
        }
    except (AttributeError, TypeError, ValueError):
        return {}


def _save(root: bytes, found: dict[bytes, Folder]) -> None:
    """Keeps a list if it is long; names as Latin-1, which has a character for every byte."""
    files = (f.images.count(b"\0") + bool(f.images) + f.left_out.total() for f in found.values())
    if sum(files) < CACHE_NAMES:
        return
    data = {
        name.decode("latin-1"): (
            folder.changed,
            folder.images.decode("latin-1"),
            [sub.decode("latin-1") for sub in folder.folders],
            [sub.decode("latin-1") for sub in folder.links],
            [(what, reason, count) for (what, reason), count in folder.left_out.items()],
        )
        for name, folder in found.items()
    }
    cache.save(_key(root), json.dumps(data).encode())


def _key(root: bytes) -> str:
    """Of a folder's list, as long as the same formats can be read."""
    return f"images of {printable(root)}, version 1: {readable()}"
