import os
import socket
import types

import pytest
from pixels import RGB, encoded

from swav_jax.data.sources import cache, listing
from swav_jax.data.sources.listing import list_images, say_left_out
from swav_jax.data.sources.names import printable
from swav_jax.data.sources.source import DataError

PNG = encoded(RGB, "PNG")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    parent = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(parent))
    return parent / "swav_jax"


def put(top, *names, data=PNG):
    for name in names:
        path = os.path.join(bytes(top), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


def replace_in_os(monkeypatch, **functions):
    """For the module alone: pytest lists folders too."""
    monkeypatch.setattr(listing, "os", types.SimpleNamespace(**vars(os) | functions))


def listed(top):
    names, left_out = list_images(bytes(top))
    return [os.fsdecode(name) for name in names], dict(left_out)


def test_images_are_listed_by_suffix_or_content_and_all_else_is_counted(tmp_path):
    put(tmp_path, "b.JPG", "a/c.tif", "a/b/d.pgm", "download", "photo.php")
    put(tmp_path, "labels.csv", "a/labels.csv", "README", data=b"text")
    put(tmp_path, ".x.jpg", ".thumbnails/b.jpg", "a/.DS_Store")
    put(tmp_path, "empty", data=b"")
    names, left_out = listed(tmp_path)
    assert names == ["a/b/d.pgm", "a/c.tif", "b.JPG", "download", "photo.php"]
    assert left_out == {
        (".csv", "no image"): 2,
        ("without suffix", "no image"): 1,
        (".jpg", "hidden"): 1,
        ("folder .thumbnails", "hidden"): 1,
        ("without suffix", "hidden"): 1,
        ("without suffix", "empty"): 1,
    }


def test_folders_that_systems_make_hold_no_images_of_the_users(tmp_path):
    put(tmp_path, "a.jpg", "@eaDir/a.jpg/thumb.jpg", "__MACOSX/b.jpg", "lost+found/c.jpg")
    names, left_out = listed(tmp_path)
    assert names == ["a.jpg"]
    assert {reason for _, reason in left_out} == {"made by the system"} and len(left_out) == 3


def test_a_short_line_says_what_is_left_out():
    kinds = {(f".{n}", "no image"): n for n in range(1, 9)} | {("folder .git", "hidden"): 1}
    assert say_left_out(listing.Counter(kinds)) == (
        "hidden (1 folder .git), no image (8 .8, 7 .7, 6 .6, 5 .5, 4 .4, 3 other kinds)"
    )


def test_what_is_no_file_is_never_opened(tmp_path):
    put(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        (tmp_path / "x.jpg").symlink_to("gone.jpg")
        (tmp_path / "self").symlink_to("self")
        (tmp_path / "null.png").symlink_to("/dev/null")
        names, left_out = listed(tmp_path)
    assert names == ["a.png"]
    assert left_out == {
        (".jpg", "pipe"): 1,
        ("without suffix", "pipe"): 1,
        ("without suffix", "socket"): 1,
        (".jpg", "link to nothing"): 1,
        ("without suffix", "link to nothing"): 1,
        (".png", "device"): 1,
    }


def test_links_are_followed_and_every_folder_is_read_once(tmp_path):
    store, top = tmp_path / "store", tmp_path / "data" / "train"
    put(store, "disc/0.png", "disc/1.png", "bar/0.png")
    top.mkdir(parents=True)
    for name in ("disc", "bar"):
        (top / name).symlink_to(store / name)
    (top / "disc" / "all").symlink_to(top)  # a loop
    (top / "disc" / "up").symlink_to(tmp_path)  # to a folder above, with all in it
    (top / "disc" / "other").symlink_to(store / "bar")  # another class
    names, left_out = listed(top)
    assert names == ["bar/0.png", "disc/0.png", "disc/1.png"]
    reason = "link to a folder that is read already"
    assert left_out == {(f"folder disc/{name}", reason): 1 for name in ("all", "up", "other")}


def test_a_folder_belongs_where_it_lies_not_where_a_link_is(tmp_path):
    put(tmp_path, "z/more/0.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "z")
    (tmp_path / "b").symlink_to(tmp_path / "z" / "more")
    assert listed(tmp_path)[0] == ["z/more/0.png"]


def test_of_links_to_one_folder_the_nearest_and_then_the_first_counts(tmp_path):
    put(tmp_path, "store/0.png")
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    for name in ("a/deep", "c", "b"):
        (top / name).symlink_to(tmp_path / "store")
    assert listed(top)[0] == ["b/0.png"]


def test_file_systems_without_inode_numbers(tmp_path, monkeypatch):
    put(tmp_path, "cat/0.png", "dog/0.png")
    (tmp_path / "cat" / "all").symlink_to(tmp_path)

    def stat(path):
        real = os.stat(path)
        times = {"st_mtime_ns": real.st_mtime_ns, "st_ctime_ns": real.st_ctime_ns}
        return types.SimpleNamespace(st_dev=real.st_dev, st_ino=0, **times)

    replace_in_os(monkeypatch, stat=stat)
    assert listed(tmp_path)[0] == ["cat/0.png", "dog/0.png"]


def test_a_folder_that_cannot_be_listed_is_an_error_that_names_it(tmp_path, monkeypatch):
    put(tmp_path, "cat/0.png", "dog/0.png")

    def scan(path):
        if path.endswith(b"dog"):
            raise PermissionError(13, "Permission denied")
        return os.scandir(path)

    replace_in_os(monkeypatch, scandir=scan)
    with pytest.raises(DataError, match=r"dog cannot be listed \(Permission denied\)"):
        listed(tmp_path)


def test_a_file_that_cannot_be_opened_is_counted(tmp_path, monkeypatch):
    put(tmp_path, "0.png", "secret")

    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(listing, "why_no_image", denied)
    reason = "cannot be opened: Permission denied"
    assert listed(tmp_path) == (["0.png"], {("without suffix", reason): 1})


def test_names_are_bytes(tmp_path):
    names = [b"caf\xe9/\xe8.jpg", b"caf\xe9/\xff", b"c\nd.jpeg", "日本語 🙂/ü.gif".encode()]
    put(tmp_path, *map(os.fsdecode, names))
    assert list_images(bytes(tmp_path)).names == sorted(names)


def test_every_name_has_a_text_of_its_own():
    names = [b"caf\xe9", b"caf\\xe9", "caf\u00e9".encode(), b"a\nb", b"a\\nb", "\u0085".encode()]
    names += [b"\x85", "日本語 🙂".encode(), "\u2028".encode(), b"with space"]
    texts = [printable(name) for name in names]
    assert len(set(texts)) == len(names)
    assert texts[:4] == ["caf\\xe9", "caf\\\\xe9", "caf\u00e9", "a\\nb"]
    assert texts[7] == "日本語 🙂" and texts[9] == "with space"
    for text in texts:
        text.encode()
        assert text.splitlines() == [text]


# ---- the kept list -------------------------------------------------------------------------------


@pytest.fixture
def scans(monkeypatch):
    """A list is kept however short it is; the folders that were read."""
    monkeypatch.setattr(listing, "CACHE_NAMES", 1)
    monkeypatch.setattr(listing, "SETTLED_SECONDS", -1e9)
    found = []

    def scan(path):
        found.append(os.path.basename(path))
        return os.scandir(path)

    replace_in_os(monkeypatch, scandir=scan)
    return found


def test_a_kept_list_reads_only_the_folders_that_changed(tmp_path, scans):
    top = tmp_path / "top"
    put(top, "cat/0.png", "cat/caf\udce9.png", "dog/0.png", "dog/1.png")
    put(top, "dog/notes.txt", data=b"text")
    (top / "more").symlink_to(top / "cat")
    first = list_images(bytes(top))
    assert sorted(scans) == [b"cat", b"dog", b"top"]
    scans.clear()
    assert list_images(bytes(top)) == first and not scans
    put(top, "dog/2.png")
    (top / "dog" / "0.png").unlink()
    os.utime(top / "dog", ns=(1, 1))
    names, left_out = list_images(bytes(top))
    assert scans == [b"dog"] and left_out == first.left_out
    assert names == [b"cat/0.png", b"cat/caf\xe9.png", b"dog/1.png", b"dog/2.png"]


def test_a_kept_list_forgets_folders_that_are_gone(tmp_path, scans):
    put(tmp_path, "cat/0.png", "dog/0.png")
    list_images(bytes(tmp_path))
    os.rename(tmp_path / "dog", tmp_path / "cow")
    assert list_images(bytes(tmp_path)).names == [b"cat/0.png", b"cow/0.png"]
    scans.clear()
    assert list_images(bytes(tmp_path)).names == [b"cat/0.png", b"cow/0.png"] and not scans


def test_a_folder_that_may_still_change_is_read_again(tmp_path, scans, monkeypatch):
    put(tmp_path, "cat/0.png", "dog/0.png", "dog/download")
    put(tmp_path, "dog/download", data=b"")  # its bytes may come without a change of the folder
    assert list_images(bytes(tmp_path)).names == [b"cat/0.png", b"dog/0.png"]
    scans.clear()
    put(tmp_path, "dog/download")
    assert list_images(bytes(tmp_path)).names == [b"cat/0.png", b"dog/0.png", b"dog/download"]
    assert scans == [b"dog"]

    monkeypatch.setattr(listing, "SETTLED_SECONDS", 1e9)  # all have just changed
    cache.save(listing._key(os.path.realpath(bytes(tmp_path))), b"{}")
    list_images(bytes(tmp_path))
    scans.clear()
    list_images(bytes(tmp_path))
    assert len(scans) == 3


def test_folders_without_a_date_are_read_each_time(tmp_path, scans, monkeypatch):
    def stat(path):
        real = os.stat(path)
        times = {"st_mtime_ns": 0, "st_ctime_ns": 0}
        return types.SimpleNamespace(st_dev=real.st_dev, st_ino=real.st_ino, **times)

    put(tmp_path, "cat/0.png")
    monkeypatch.setattr(listing.os, "stat", stat)
    for _ in range(2):
        list_images(bytes(tmp_path))
    assert len(scans) == 4


def test_a_list_that_was_interrupted_goes_on(tmp_path, scans, monkeypatch):
    put(tmp_path, "ant/0.png", "bee/0.png", "cat/0.png")

    def interrupted(path, changed):
        if path.endswith(b"cat"):
            raise KeyboardInterrupt
        return read(path, changed)

    read = listing._read
    monkeypatch.setattr(listing, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list_images(bytes(tmp_path))
    monkeypatch.setattr(listing, "_read", read)
    scans.clear()
    assert len(list_images(bytes(tmp_path)).names) == 3
    assert scans == [b"cat"]


def test_short_lists_are_not_kept_and_who_cannot_write_does_without(
    tmp_path, own_cache, monkeypatch
):
    put(tmp_path / "top", "cat/0.png")
    list_images(bytes(tmp_path / "top"))
    assert not list(own_cache.iterdir())
    monkeypatch.setattr(listing, "CACHE_NAMES", 1)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert list_images(bytes(tmp_path / "top")).names == [b"cat/0.png"]


def test_a_damaged_kept_list_is_made_anew(tmp_path, own_cache, scans):
    put(tmp_path, "cat/0.png")
    list_images(bytes(tmp_path))
    (kept,) = own_cache.iterdir()
    for damage in (b"", b"{", b"[1]", b'{"": 3}'):
        kept.write_bytes(damage)
        assert list_images(bytes(tmp_path)).names == [b"cat/0.png"]
