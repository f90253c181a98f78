"""The most expensive kernels of a profile."""

from collections import Counter
from pathlib import Path
from typing import Any

from jax.profiler import ProfileData

GPU = "/device:GPU"
STREAM = "Stream"  # begins the names of lines that hold kernels and copies; others sum these up


def most_expensive(profiles: list[ProfileData], most: int = 3) -> list[dict[str, Any]] | None:
    """The kernels that take longest together, with their share of all kernels' time.

    Args:
      profiles: of one or more processes.
      most: kernels to name.

    Returns:
      dicts of name, share and calls; None if no kernel of a GPU was recorded.
    """
    nanoseconds: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for profile in profiles:
        for plane in profile.planes:
            if plane.name.startswith(GPU):
                for line in plane.lines:
                    if line.name.startswith(STREAM):
                        for event in line.events:
                            nanoseconds[event.name] += event.duration_ns
                            calls[event.name] += 1
    total = nanoseconds.total()
    return [
        {"name": name, "share": spent / total, "calls": calls[name]}
        for name, spent in nanoseconds.most_common(most)
    ] or None


def read_profiles(folder: Path) -> list[ProfileData]:
    """What `jax.profiler.trace` wrote into a folder."""
    return [ProfileData.from_file(str(file)) for file in folder.rglob("*.xplane.pb")]
