"""Wrong flags, and errors in the file that `--config` names, in one line each."""

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

CONFIG_FILE = "config_config"  # the module that ml_collections makes of the file of --config
SETTINGS = ("ml_collections.config_dict", "ml_collections.config_flags.config_path")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What users do wrong in flags or a config file ends the process with one line."""
    try:
        yield
    except Exception as error:
        if told := _in_config_file(error) or _in_flags(error):
            sys.exit(f"error: {told}")
        raise


def _in_config_file(error: BaseException) -> str:
    """The line of the config file where an error, or what led to it, arose; empty if none."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, SyntaxError) and Path(cause.filename or "").is_file():
            return f"{cause.filename}, line {cause.lineno}: {cause.msg}"
        for frame, line in reversed(list(traceback.walk_tb(cause.__traceback__))):
            if frame.f_globals.get("__name__") == CONFIG_FILE:
                key = _unknown_setting(cause)
                what = f"there is no setting {key}" if key else _words(cause)
                return f"{frame.f_code.co_filename}, line {line}: {what}"
        cause = cause.__cause__ or cause.__context__
    return ""


def _in_flags(error: Exception) -> str:
    """What is wrong with the flags; empty for errors that they cannot cause."""
    if isinstance(error, OSError):
        return f"--config cannot be read: {_one_line(error).rpartition('[Relative path]: ')[2]}"
    if isinstance(error, flags.Error):
        return _one_line(error)
    if not isinstance(error, AttributeError | KeyError | TypeError | ValueError):
        return ""
    key = _unknown_setting(error)
    return f"--config has no setting {key}" if key else f"--config: {_words(error)}"


def _unknown_setting(error: BaseException) -> str:
    """The setting that an error of ml_collections misses, and what there is; empty for others.

    It is an AttributeError or a KeyError that says `Key "lr" does not exist ...`, or `lr` and
    perhaps `Did you mean "base_lr" ...`, or `... Attempting to lookup: seed.lr`.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    raised_by = str(frame.f_globals.get("__name__"))
    if not isinstance(error, AttributeError | KeyError) or not raised_by.startswith(SETTINGS):
        return ""
    text = str(error)
    key = re.search(r"lookup: ([\w.]+)", text) or re.search(r'(?:Key ")?(\w+)', text)
    missing = key[1] if key else text
    if meant := re.search(r"Did you mean .(\w+)", text):
        return f"{missing}. Did you mean {meant[1]}?"
    section = frame.f_locals.get("self")
    return (
        f"{missing}; there are {', '.join(section)}" if isinstance(section, ConfigDict) else missing
    )


def _words(error: BaseException) -> str:
    """What an error says; its type too, unless it is one of ours, which speak for themselves."""
    ours = type(error).__module__.startswith("swav_jax.")
    return _one_line(error) if ours else f"{type(error).__name__}: {_one_line(error)}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
