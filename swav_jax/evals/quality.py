"""What features are worth without labels: how many directions they use, and how they lie there.

The features of N images are the rows of Z [N, F]. Everything is float64 on the host.
"""

import numpy as np
from jaxtyping import Float, Float64

EPSILON = 1e-7  # of RankMe, as published
SIMILARITIES = 2**22  # held at once: 32 MB in float64
FIRST_RANK, LAST_RANK = 11, 500  # of the spectrum that alpha is fitted to (Stringer et al., 2019)


def quality(features: Float[np.ndarray, "N F"]) -> dict[str, float]:
    """`rankme`, `alpha` and `uniformity`; NaN where there are too few images or features."""
    return {
        "rankme": rankme(features),
        "alpha": alpha(features),
        "uniformity": uniformity(features),
    }


def rankme(features: Float[np.ndarray, "N F"]) -> float:
    """The effective rank of the features, from 1 to min(N, F).

    exp(-sum_k p_k ln p_k) with p_k = s_k / sum_j s_j + 1e-7, where s are the singular values of Z
    (Garrido et al., 2023, "RankMe", equations 1 and 2). 1 is one direction for all images, which
    features that have collapsed come near; the more even the directions, the higher it is.
    """
    singular = np.sqrt(_eigenvalues(np.asarray(features, np.float64)))
    share = singular / max(singular.sum(), np.finfo(np.float64).tiny) + EPSILON
    return float(np.exp(-np.sum(share * np.log(share))))


def alpha(features: Float[np.ndarray, "N F"]) -> float:
    """The decay of the spectrum: the k-th eigenvalue of the covariance is about k^-alpha.

    The slope of ln(eigenvalue) over ln(k) by least squares with weights 1 / k, for k from 11 to 500
    as in Stringer et al., 2019 ("High-dimensional geometry of population responses in visual
    cortex"); Agrawal et al., 2022 ("alpha-ReQ") find that features near 1 transfer best. Of narrow
    features, k ends at half of their number: the last eigenvalues follow no power law. NaN for
    features that have less than FIRST_RANK + 1 such eigenvalues.
    """
    rows = np.asarray(features, np.float64)
    values = _eigenvalues(rows - rows.mean(axis=0))
    last = min(LAST_RANK, min(len(rows) - 1, rows.shape[1]) // 2)
    k = np.arange(FIRST_RANK, last + 1)
    used = values[k - 1]
    if len(k) < 2 or used[-1] <= np.finfo(np.float64).eps * values[0]:
        return float("nan")
    slope, _ = np.polyfit(np.log(k), np.log(used), 1, w=np.sqrt(1 / k))  # polyfit squares weights
    return float(-slope)


def uniformity(features: Float[np.ndarray, "N F"], t: float = 2.0) -> float:
    """How evenly the directions z of the features lie on the sphere; lower is more evenly.

    ln mean exp(-t |z_i - z_j|^2) over all pairs of different images (Wang & Isola, 2020, section
    4.1.2): 0 if all are one point, about -2 t where they are even in many dimensions. NaN of less
    than two images.
    """
    z = _unit(features)
    if len(z) < 2:
        return float("nan")
    total, chunk = 0.0, max(1, SIMILARITIES // len(z))
    for first in range(0, len(z), chunk):
        near = np.exp(-t * np.maximum(2 - 2 * (z[first : first + chunk] @ z.T), 0))
        np.fill_diagonal(near[:, first:], 0)  # with itself
        total += float(near.sum())
    return float(np.log(total / (len(z) * (len(z) - 1))))


def _eigenvalues(rows: Float64[np.ndarray, "N F"]) -> Float64[np.ndarray, "R"]:
    """The min(N, F) largest eigenvalues of rows^T rows, from the highest to the lowest."""
    few = rows.T @ rows if rows.shape[0] > rows.shape[1] else rows @ rows.T
    return np.maximum(np.linalg.eigvalsh(few)[::-1], 0)


def _unit(features: Float[np.ndarray, "N F"]) -> Float64[np.ndarray, "N F"]:
    rows = np.asarray(features, np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
