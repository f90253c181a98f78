"""Text files that name images, as programs of any system write them."""

import codecs

from swav_jax.data.sources.source import DataError
from swav_jax.runtime.storage import AnyPath, located


def read_text(path: str | AnyPath) -> bytes:
    """A file's text, without a byte order mark.

    Raises:
      DataError: it is no text, or in UTF-16.
      OSError: it cannot be read.
    """
    text = located(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    if b"\0" in text:  # which no path holds
        raise DataError(f"{path} is no plain text: save it as UTF-8")
    return text


def read_lines(path: str | AnyPath) -> list[bytes]:
    """The lines that are not empty; errors as of `read_text`."""
    return [line for line in read_text(path).splitlines() if line.strip()]
