"""Keeps off the terminal what C and C++ libraries write about images and about themselves.

libjpeg and libtiff print lines for each damaged image, each time it is read, and XLA and TensorFlow
log what they find on the machine. None of them can be told otherwise from here. Images that cannot
be read are reported by `data`. All other lines pass, among them the last ones before a crash.
"""

import os
import subprocess
import sys

from absl import logging

# Lines of libjpeg, libtiff (in pieces, which threads mix), libpng and TensorFlow's decoders; what
# absl in C++ logs that is no error, and the place in its graph that TensorFlow adds to that.
NOISE = (
    rb"JPEG|Decode\w*: |tempfile\.tif|TIFF|libpng|jpeg_mem\.cc|png_io\.cc|gif_io\.cc"
    rb"|scanline \d|of strip \d|data check|not yet in table"
    rb"|^[IW]\d{4} \d\d:.*\.cc:\d+\]|^[IW]0000 .*\.cc:\d+\]|^WARNING: All log messages before absl"
    rb"|^\s+\[\[\{\{node "
)

# A process of its own, because what passes must reach the terminal after an abort, too.
FILTER = (
    "import re, sys\n"
    f"noise = re.compile({NOISE!r})\n"
    "for line in iter(sys.stdin.buffer.readline, b''):\n"
    "    if not noise.search(line):\n"
    "        sys.stdout.buffer.write(line)\n"
    "        sys.stdout.buffer.flush()\n"
)


def without_noise() -> None:
    """Leaves out those lines from here on. Python's own stderr stays as it is."""
    if not sys.executable:
        return
    try:
        terminal = os.dup(2)
    except OSError:  # it is closed
        return
    try:
        passing = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", FILTER],
            stdin=subprocess.PIPE,
            stdout=terminal,
            start_new_session=True,  # Ctrl-C is for this process
        )
    except OSError:
        os.close(terminal)
        return
    assert passing.stdin is not None
    os.dup2(passing.stdin.fileno(), 2)
    passing.stdin.close()
    sys.stderr = os.fdopen(
        terminal, "w", buffering=1, encoding=sys.stderr.encoding, errors=sys.stderr.errors
    )
    logging.get_absl_handler().python_handler.setStream(sys.stderr)
