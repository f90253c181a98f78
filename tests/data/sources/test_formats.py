import sys
import types

import pytest
from PIL import Image, ImageFile
from pixels import RGB, encoded

from swav_jax.data.sources import formats
from swav_jax.data.sources.formats import readable, suffix_of, trusted_suffixes, why_no_image

KINDS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "ICO", "PCX", "SGI", "DDS"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["photo", "photo.php", "photo.txt", ".jpg_", "a.jpg?w=100"])
def test_images_are_known_whatever_their_name(tmp_path, kind, name):
    (tmp_path / name).write_bytes(encoded(RGB, kind))
    assert why_no_image(bytes(tmp_path / name)) == ""


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a", b"", "empty"),
        ("a.csv", b"name,label\n1.jpg,1\n", "no image"),
        ("a.c", b"#define WIDTH 3\nint main() {}\n", "no image"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "no image"),
        ("a.npy", b"\x93NUMPY\1\0" + bytes(100), "no image"),
        ("a.pdf", b"%PDF-1.7\n", "no image"),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "no image"),
        ("a.txt", b"BMW and P5 are words\n", "no image"),
        ("a.nef", encoded(RGB, "TIFF"), "camera raw"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC, which `pip install pillow-heif`"),
        ("a.jxl", b"\xff\x0a" + bytes(90), "JPEG XL"),
    ],
)
def test_what_is_no_image_has_a_reason(tmp_path, name, data, reason):
    (tmp_path / name).write_bytes(data)
    assert why_no_image(bytes(tmp_path / name)).startswith(reason)


def test_a_format_without_signature_is_known_by_suffix_and_content(tmp_path):
    for name, data in (("a.tga", encoded(RGB, "TGA")), ("b.tga", b"text"), ("c", b"\0\0\2" * 9)):
        (tmp_path / name).write_bytes(data)
    reasons = [why_no_image(bytes(tmp_path / name)) for name in ("a.tga", "b.tga", "c")]
    assert reasons == ["", "no image", "no image"]


def test_an_image_that_is_too_large_is_not_opened_again(tmp_path, monkeypatch):
    (tmp_path / "slide.svs").write_bytes(encoded(RGB, "TIFF"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert why_no_image(bytes(tmp_path / "slide.svs")) == "too large"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        (b"a.JPG", b".jpg"),
        (b"a.tar.gz", b".gz"),
        (b"README", b""),
        (b".profile", b""),
        (b"..jpg", b""),
        (b"a.", b"."),
        (b"caf\xe9.\xe9", b".\xe9"),
    ],
)
def test_suffixes(name, suffix):
    assert suffix_of(name) == suffix


def test_usual_suffixes_are_trusted():
    assert {b".jpg", b".jpeg", b".png", b".tif", b".tiff", b".pgm", b".jp2"} < set(
        trusted_suffixes()
    )
    assert not {b".tga", b".h5", b".eps", b".ico", b".pdf"} & set(trusted_suffixes())


def test_heic_is_read_where_its_plugin_is_installed(tmp_path, monkeypatch):
    """A stand-in for the plugin, which registers a format as plugins do."""

    class HeifFile(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._mode, self._size = RGB.mode, RGB.size

    def register_heif_opener():
        Image.register_open("HEIF", HeifFile, lambda start: start[4:12] == b"ftypheic")
        Image.register_extension("HEIF", ".heic")

    plugin = types.ModuleType("pillow_heif")
    plugin.register_heif_opener = register_heif_opener
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    Image.init()
    for name in ("OPEN", "EXTENSION"):
        monkeypatch.setattr(Image, name, dict(getattr(Image, name)))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    for cached in (readable, trusted_suffixes):
        cached.cache_clear()
    try:
        assert "HEIF" in formats.readable() and b".heic" in formats.trusted_suffixes()
        (tmp_path / "photo").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
        assert why_no_image(bytes(tmp_path / "photo")) == ""
    finally:
        for cached in (readable, trusted_suffixes):
            cached.cache_clear()
