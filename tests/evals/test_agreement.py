import numpy as np
import pytest

from swav_jax.evals.agreement import agreement, compare, nmi


def test_nmi_of_hand_values():
    assert nmi(np.array([0, 0, 1, 1]), np.array([5, 5, 3, 3])) == pytest.approx(1)
    assert nmi(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == pytest.approx(0, abs=1e-12)
    # Halves against quarters share ln 2; the entropies are ln 2 and ln 4.
    assert nmi(np.array([0, 0, 1, 1]), np.arange(4)) == pytest.approx(2 / 3)


def test_only_images_that_both_assign_count():
    assert nmi(np.array([0, 0, 1, 1, -1]), np.array([5, 5, 3, 3, 3])) == pytest.approx(1)
    assert np.isnan(nmi(np.array([-1, 0]), np.array([0, -1])))


def test_first_clustering_has_no_previous_one_and_unlabelled_data_no_labels():
    none, after = np.full((2, 6), -1), np.array([[0, 0, 1, 1, -1, -1], [0, 1, 0, 1, -1, -1]])
    labels = np.array([7, 7, 8, 8])
    assert compare(none, after, None) == {}
    assert compare(none, none, labels) == {}
    assert compare(none, after, labels) == {"nmi_labels": pytest.approx(0.5)}
    some_labels = np.array([7, -1, 8, 8])
    assert compare(none[:1], after[:1], some_labels) == {"nmi_labels": pytest.approx(1)}
    assert compare(after, after[::-1], None) == {"nmi_previous": pytest.approx(0, abs=1e-12)}


def test_partitions_without_a_common_image_have_no_score():
    before, after = np.array([[0, 1, -1, -1]]), np.array([[-1, -1, 0, 1]])
    assert compare(before, after, labels=np.array([0, 1])) == {}


def test_agreement_of_hand_values():
    labels, clusters = np.array([0, 0, 0, 1, 1, 2, -1]), np.array([4, 4, 7, 7, 7, 7, 0])
    found = agreement(labels, clusters)
    assert found["purity"] == pytest.approx(100 * 4 / 6)  # two of class 0, two of class 1
    # H(class) - H(class | cluster), of the counts (2), (1, 2, 1).
    in_classes = -sum(p * np.log(p) for p in (3 / 6, 2 / 6, 1 / 6))
    within = 4 / 6 * -sum(p * np.log(p) for p in (1 / 4, 2 / 4, 1 / 4))
    assert found["mutual_information"] == pytest.approx(in_classes - within)
    assert found["homogeneity"] == pytest.approx(1 - within / in_classes)
    assert found["nmi"] == pytest.approx(nmi(labels[:6], clusters[:6]))
    assert 0 < found["ami"] < found["nmi"]


def test_agreement_of_equal_partitions_and_of_none():
    labels = np.array([0, 0, 1, 2])
    found = agreement(labels, labels + 3)
    assert (found["purity"], found["ami"]) == (100, pytest.approx(1))
    assert agreement(np.array([-1, -1]), np.array([0, 1])) == {}
