"""PCA whitening: the leading principal components of a data set, each scaled to unit variance.

Beside the rows, and those of the result, there is only a chunk of centred rows at a time.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from swav_jax.ops.chunks import even_chunk
from swav_jax.ops.precision import full_einsum
from swav_jax.sharding import SAMPLES, WHOLE, on_blocks

# Variances below this share of the largest are rounding errors of float32: do not amplify them.
SMALLEST_VARIANCE = 1e-6

CHUNK = 2**24  # numbers centred at a time on each device: 64 MiB in float32


def pca_whiten(
    x: Float[Array, "N D"], components: int, *, valid: Bool[Array, "N"] | None = None
) -> Float[Array, "N C"]:
    """Projects rows on their C leading principal components and scales these to unit variance.

    z = (x - mean) U_C diag(variance_C)^(-1/2), where the covariance, over N - 1, is
    U diag(variance) U^T. The components come by falling variance; their signs are arbitrary.
    DeepCluster takes 256 and then scales rows to unit length (Caron et al., 2018, section 3.3).

    Args:
      x: the data. Under `jax.set_mesh` its rows are spread over the `data` axis, which must divide
        N, and those of the result are too.
      components: C.
      valid: rows that mean and covariance are computed from; all by default.

    Raises:
      ValueError: more components are asked for than there are dimensions.
    """
    if components > x.shape[1]:
        raise ValueError(
            f"PCA cannot keep {components} components of {x.shape[1]}-dimensional features: "
            f"ask for {x.shape[1]} or fewer."
        )
    valid = jnp.ones(x.shape[0], bool) if valid is None else valid
    return _pca_whiten(x, components, valid)


@partial(jax.jit, static_argnums=1)
def _pca_whiten(x: Array, components: int, valid: Array) -> Array:
    dtype = np.promote_types(x.dtype, np.float32)
    rows = jnp.sum(valid, dtype=dtype)

    def total(x: Array, valid: Array) -> Array:
        return jnp.sum(x, axis=0, dtype=dtype, where=valid[:, None])

    mean = _sum_over_chunks(total, x, valid) / rows

    def scatter(x: Array, valid: Array) -> Array:
        centred = jnp.where(valid[:, None], x.astype(dtype) - mean[None, :], 0)
        return full_einsum("nd,ne->de", centred, centred)

    variances, directions = jnp.linalg.eigh(_sum_over_chunks(scatter, x, valid) / (rows - 1))
    leading = jnp.flip(directions[:, -components:], axis=1)
    scales = jnp.flip(jnp.maximum(variances, SMALLEST_VARIANCE * variances[-1])[-components:])
    whitening = leading / jnp.sqrt(scales)[None, :]

    def project(x: Array) -> Array:
        return full_einsum("nd,dc->nc", x.astype(dtype) - mean[None, :], whitening)

    def project_block(x: Array, **_: Any) -> Array:
        return lax.map(project, _chunks(x)).reshape(len(x), components)

    return on_blocks(project_block, (x,), in_specs=(SAMPLES,), out_specs=SAMPLES)


def _sum_over_chunks(
    function: Callable[[Array, Array], Array], x: Float[Array, "N D"], valid: Bool[Array, "N"]
) -> Array:
    """The sum of `function(rows, valid)` over the chunks of all devices."""

    def sum_block(x: Array, valid: Array, sample_axes: Sequence[str], **_: Any) -> Array:
        chunks = _chunks(x)
        valid = valid.reshape(chunks.shape[:2])

        def add(i: Array, total: Array) -> Array:
            return total + function(chunks[i], valid[i])

        total = lax.fori_loop(1, len(chunks), add, function(chunks[0], valid[0]))
        return lax.psum(total, sample_axes)

    return on_blocks(sum_block, (x, valid), in_specs=(SAMPLES, SAMPLES), out_specs=WHOLE)


def _chunks(x: Float[Array, "n D"]) -> Float[Array, "chunks rows D"]:
    """A device's rows in equal chunks of at most `CHUNK` numbers."""
    rows, width = x.shape
    return x.reshape(-1, even_chunk(rows, CHUNK // width), width)
