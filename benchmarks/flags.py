"""Kinds of command-line values, for `type` of argparse, and what `--peer` needs."""

import argparse
import importlib.util


def count(text: str) -> int:
    """A whole number of at least 1.

    Raises:
      ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def counts(text: str) -> list[int]:
    """Such numbers, separated by commas.

    Raises:
      ArgumentTypeError: one is none.
    """
    return [count(part) for part in text.split(",")]


def crop_sizes(text: str) -> list[tuple[int, int]]:
    """`2x224,6x96` -> [(2, 224), (6, 96)]: how many crops, and their pixels.

    Raises:
      ArgumentTypeError: a part is no such pair.
    """
    pairs = [part.split("x") for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not COUNTxPIXELS,COUNTxPIXELS,...")
    return [(count(n), count(size)) for n, size in pairs]


def check_peer(package: str) -> None:
    """Ends the program with what to install if a peer's package is missing."""
    if not importlib.util.find_spec(package):
        raise SystemExit("The peer is missing: pip install -e '.[peers]'")
