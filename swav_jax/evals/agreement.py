"""How far partitions of the same images agree: numpy on the host, between epochs."""

import numpy as np
from jaxtyping import Int
from sklearn.metrics import (
    adjusted_mutual_info_score,
    homogeneity_score,
    mutual_info_score,
    normalized_mutual_info_score,
)
from sklearn.metrics.cluster import contingency_matrix


def nmi(a: Int[np.ndarray, "N"], b: Int[np.ndarray, "N"]) -> float:
    """Normalised mutual information I(A; B) / ((H(A) + H(B)) / 2): 0 for independent, 1 for equal.

    The mean of the entropies is the arithmetic one, scikit-learn's default; the figures of the
    DeepCluster paper are over the geometric one, sqrt(H(A) H(B)), and never smaller than these.

    It is taken over the images that both partitions assign (not -1); NaN if there are none.
    """
    both = (a >= 0) & (b >= 0)
    return float(normalized_mutual_info_score(a[both], b[both])) if both.any() else float("nan")


def agreement(labels: Int[np.ndarray, "N"], clusters: Int[np.ndarray, "N"]) -> dict[str, float]:
    """How well clusters agree with classes, over the images that have both (not -1).

    Returns:
      purity: percent of the images that are of the most common class of their cluster.
      nmi: as `nmi`.
      ami: the mutual information adjusted for chance, which grows with the number of clusters
        (Vinh et al., 2010, with the arithmetic mean of the entropies); 0 on average for clusters
        at random, 1 for equal partitions.
      mutual_information: in nats.
      homogeneity: the mutual information over the entropy of the classes; 1 if every cluster is of
        one class.
      Nothing where no image has both.
    """
    both = (labels >= 0) & (clusters >= 0)
    if not both.any():
        return {}
    pair = labels[both], clusters[both]
    counts = contingency_matrix(*pair, sparse=True)  # [classes, clusters]
    return {
        "nmi": nmi(*pair),
        "ami": float(adjusted_mutual_info_score(*pair)),
        "purity": 100 * float(counts.max(axis=0).sum() / counts.sum()),
        "mutual_information": float(mutual_info_score(None, None, contingency=counts)),
        "homogeneity": float(homogeneity_score(*pair)),
    }


def compare(
    before: Int[np.ndarray, "H N"],
    after: Int[np.ndarray, "H N"],
    labels: Int[np.ndarray, "n"] | None,
) -> dict[str, float]:
    """The measures of Caron et al., 2018, section 4.2, as means over H clusterings.

    Args:
      before: the clusters of the clustering before, all -1 if there was none.
      after: the new clusters, all -1 if there are none yet.
      labels: the classes of the first n images, -1 for one without; None if all are without.

    Returns:
      nmi_previous: with the clusters before, if there were any; it rises as clusters settle.
      nmi_labels: with the classes, if both are known.
      Neither where no image is in both partitions.
    """
    scores = {}
    if (before >= 0).any():
        scores["nmi_previous"] = [nmi(*pair) for pair in zip(before, after, strict=True)]
    if labels is not None and (after >= 0).any():
        scores["nmi_labels"] = [nmi(labels, clusters[: len(labels)]) for clusters in after]
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    return {name: mean for name, mean in means.items() if not np.isnan(mean)}
