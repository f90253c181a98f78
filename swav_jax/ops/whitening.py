"""PCA whitening: the leading principal components of a data set, each scaled to unit variance."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

# Relative to the largest variance, smaller ones are rounding errors of float32, not to be blown up.
SMALLEST_VARIANCE = 1e-6


def pca_whiten(
    x: Float[Array, "N D"], components: int, *, valid: Bool[Array, "N"] | None = None
) -> Float[Array, "N C"]:
    """Projects rows on their C leading principal components and scales these to unit variance.

    z = (x - mean) U_C diag(variance_C)^(-1/2), where the covariance, over N - 1, is
    U diag(variance) U^T. The components come by falling variance; their signs are arbitrary.
    DeepCluster takes 256 and then scales rows to unit length (Caron et al., 2018, section 3.3).

    Args:
      x: the data; rows may be spread over devices, and those of the result then are too.
      components: C.
      valid: rows that mean and covariance are taken of; all by default.

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
    matmul = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    rows = jnp.sum(valid, dtype=dtype)
    mean = jnp.sum(x, axis=0, dtype=dtype, where=valid[:, None]) / rows
    centred = x.astype(dtype) - mean[None, :]
    members = jnp.where(valid[:, None], centred, 0)
    variances, directions = jnp.linalg.eigh(matmul(members.T, members) / (rows - 1))
    leading = jnp.flip(directions[:, -components:], axis=1)
    scales = jnp.flip(jnp.maximum(variances, SMALLEST_VARIANCE * variances[-1])[-components:])
    return matmul(centred, leading / jnp.sqrt(scales)[None, :])
