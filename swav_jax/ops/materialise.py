"""Arrays that XLA:CPU keeps in memory instead of computing them again wherever they are read."""

from jax import lax
from jaxtyping import Array


def materialised(x: Array) -> Array:
    """`x`, and in the backward pass its gradient, computed once and written to memory on a CPU.

    XLA:CPU fuses what makes an array into the loop that reads it. If that loop sums or transposes,
    for instance for the gradient of a kernel, it then computes along columns, many times slower.
    Works in programs that are compiled with `swav_jax.runtime.xla.step_options`; does nothing in
    others, and on other platforms.
    """
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda x: x)
