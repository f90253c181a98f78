import unicodedata

import numpy as np

from swav_jax.data.sources.labels import labels_by_folder


def test_first_level_folders_are_classes():
    labels = labels_by_folder([b"ant/deep/c", b"cat/a", b"cat/b"])
    assert labels.numbers.tolist() == [0, 1, 1] and labels.numbers.dtype == np.int32
    assert labels.class_names == ("ant", "cat") and not labels.note


def test_one_folder_or_none_tells_no_classes_apart():
    for names in ([b"a", b"b"], [b"cat/a", b"cat/b"], [b"a", b"more/b"]):
        assert labels_by_folder(names) == (None, (), "")


def test_images_beside_the_folders_of_classes_are_said():
    labels = labels_by_folder([b"ant/a", b"bee/a", b"b", b"c"])
    assert labels.numbers is None and labels.class_names == ()
    assert "2 of 4 lie beside" in labels.note


def test_names_have_one_unicode_form():
    composed, apart = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    assert composed != apart
    for form in (composed, apart):
        labels = labels_by_folder([f"{form}/a".encode(), b"tea/a"])
        assert labels.class_names == (composed, "tea")
    both = labels_by_folder([f"{composed}/a".encode(), f"{apart}/b".encode(), b"tea/a"])
    assert both.numbers.tolist() == [0, 0, 1]


def test_names_that_are_no_utf8_stay_apart():
    labels = labels_by_folder([b"caf\xe9/a", b"caf\xe8/a", b"caf\\xe9/a"])
    assert len(set(labels.numbers.tolist())) == len(labels.class_names) == 3


def test_as_many_classes_as_images():
    labels = labels_by_folder([b"%06d/0" % n for n in range(50_000)])
    np.testing.assert_array_equal(labels.numbers, np.arange(50_000))


def test_splits_are_no_classes():
    labels = labels_by_folder([b"test_set/ant/a", b"train/ant/a", b"train/bee/a"])
    assert labels.class_names == ("ant", "bee") and labels.numbers.tolist() == [0, 0, 1]
    assert labels_by_folder([b"test/a", b"train/a"]).numbers is None
    assert labels_by_folder([b"test/a", b"car/a"]).class_names == ("car", "test")
