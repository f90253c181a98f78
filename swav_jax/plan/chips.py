"""What TPU chips can do, by the names that their slices begin with."""

from typing import NamedTuple


class Chip(NamedTuple):
    """One chip, as docs.cloud.google.com/tpu/docs/<chip> says (read in November 2026).

    Attributes:
      flops: bfloat16 operations a second.
      memory: bytes of HBM that a program can use, a little less than the published size: those that
        the compiler names ("exceeds available HBM") where it refuses one (libtpu 0.0.52).
      bandwidth: bytes a second between HBM and the chip.
      network: bytes a second that a chip sends to its neighbours, all links together; half of the
        published sum of both directions.
    """

    flops: float
    memory: float
    bandwidth: float
    network: float


CHIPS = {
    "v5e": Chip(197e12, 15.75 * 2**30, 819e9, 200e9),
    "v5p": Chip(459e12, 95.73 * 2**30, 2765e9, 600e9),
}
