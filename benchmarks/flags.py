"""Kinds of command-line values, for `type` of argparse."""

import argparse


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
