import numpy as np

from swav_jax.pages import gallery
from swav_jax.pages.gallery import chosen, summaries

CLUSTERS = np.array([2, 0, 2, 2, 0, 3])
SCORES = np.array([0.1, 0.5, 0.9, 0.3, 0.7, 0.2])


def test_the_best_of_each_cluster_and_others_are_chosen(monkeypatch):
    monkeypatch.setattr(gallery, "MEMBERS", 4)
    assert chosen(CLUSTERS, SCORES, 4, []).tolist() == [4, 2, 5]
    assert chosen(CLUSTERS, SCORES, 4, [np.array([0])]).tolist() == [4, 2, 0, 5]


def test_summaries():
    labels = np.array([1, 1, 0, 1, -1, -1])
    shown = np.array([4, 2, 0, 5])
    found = summaries(CLUSTERS, SCORES, 4, labels, shown)
    assert [one["size"] for one in found] == [2, 0, 3, 1]
    assert [(one["first"], one["end"]) for one in found] == [(0, 1), (1, 1), (1, 3), (3, 4)]
    assert [one["purity"] for one in found] == [1.0, 0.0, 0.6667, 0.0]
    assert found[2]["shares"] == [(1, 0.6667), (0, 0.3333)]
    assert found[0]["score"] == 0.6
    assert "purity" not in summaries(CLUSTERS, SCORES, 4, None, shown)[0]
