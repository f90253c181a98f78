"""Which files are images: by their suffix where that is a usual one, else by what is in them."""

import contextlib
import functools
import importlib
from collections.abc import Collection

from PIL import Image

# Usual formats: their suffixes are trusted, so that no file is opened for the list of millions.
USUAL = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Others that begin with a signature of their own. Pillow also opens what is no picture (HDF5), what
# needs another program (EPS), and formats without a signature, for which nearly any file passes.
RARE: tuple[str, ...]
RARE = ("BLP", "CUR", "DCX", "DDS", "FITS", "FTEX", "ICNS", "ICO", "MSP", "PCD", "PCX", "PIXAR")
RARE = (*RARE, "PSD", "QOI", "SGI", "SUN", "XBM", "XPM")
TGA, TGA_SUFFIXES = "TGA", (b".tga", b".vda", b".icb", b".vst")  # without a signature

SURE = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")  # enough to know them by
# Of TIFF's signature, but what Pillow would read is the thumbnail.
CAMERA_RAW = frozenset(b".3fr .arw .cr2 .dng .erf .iiq .kdc .mef .mos .nef .nrw .pef .srw".split())
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
AVIF = (b"avif", b"avis")
JPEG_XL = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")


@functools.cache
def readable() -> tuple[str, ...]:
    """The formats that Pillow can read here; HEIF if its plugin pillow-heif is installed."""
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    return tuple(format for format in (*USUAL, *RARE) if format in Image.OPEN)


def trusted_formats() -> list[str]:
    """The usual formats that Pillow can read here."""
    return [format for format in readable() if format in USUAL]


@functools.cache
def trusted_suffixes() -> Collection[bytes]:
    """Of the usual formats, lower-case, with the dot."""
    formats, suffixes = trusted_formats(), Image.registered_extensions().items()
    return frozenset(suffix.encode() for suffix, format in suffixes if format in formats)


def suffix_of(name: bytes) -> bytes:
    """Of a file's name, lower-case, with the dot; empty for `README` and `.profile`."""
    stem, dot, suffix = name.rpartition(b".")
    return dot + suffix.lower() if stem.strip(b".") else b""


def why_no_image(path: bytes) -> str:
    """Looks into a file whose suffix is not trusted.

    Returns:
      The reason to leave it out; empty for an image.

    Raises:
      OSError: it cannot be opened.
    """
    with open(path, "rb") as file:
        start = file.read(32)
    suffix = suffix_of(path.rpartition(b"/")[2])
    if not start:
        return "empty"
    if suffix in CAMERA_RAW:
        return "camera raw"
    if start.startswith(SURE):
        return ""
    formats = (*readable(), TGA) if suffix in TGA_SUFFIXES else readable()
    try:
        with Image.open(path, formats=formats):
            return ""
    except Image.DecompressionBombError:
        return "too large"
    except Exception:  # Pillow's readers raise nearly anything on what they cannot read
        return unread_format(start) or "no image"


def unread_format(start: bytes) -> str:
    """The format of an image that Pillow cannot read, by how its file starts, and what would."""
    if start[4:8] == b"ftyp" and start[8:12] in HEIC:
        return "HEIC, which `pip install pillow-heif` makes readable"
    if start[4:8] == b"ftyp" and start[8:12] in AVIF:
        return "AVIF, which Pillow 11.3 or newer reads"
    if start.startswith(JPEG_XL):
        return "JPEG XL, which Pillow does not read"
    return ""
