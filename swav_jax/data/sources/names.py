"""The names of files as text, and back: on the disk they are bytes, which need not be UTF-8."""

import json
import re
import unicodedata


def printable(name: bytes) -> str:
    """A file's name as text, other for every name: what is no UTF-8 or breaks lines is escaped."""
    return "".join(map(_escaped, name.decode("utf-8", "surrogateescape")))


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if unicodedata.category(character) == "Cs":  # a byte of no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) in ("Cc", "Zl", "Zp"):  # it would break lines
        return json.dumps(character)[1:-1]
    return character


def stored(text: str) -> bytes:
    """The name whose `printable` text this is; a backslash that escapes nothing is itself."""

    def character(escape: re.Match[str]) -> str:
        if escape[0] == "\\\\":
            return "\\"
        if escape[0].startswith("\\x"):
            return chr(0xDC00 + int(escape[1], 16))
        return json.loads(f'"{escape[0]}"')

    found = re.sub(r"\\(?:x([0-9a-f]{2})|u[0-9a-f]{4}|[\\bfnrt])", character, text)
    return found.encode("utf-8", "surrogateescape")
