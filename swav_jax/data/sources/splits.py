"""Folders that look like the splits of a data set, by the words in their names."""

import re

TRAIN = frozenset(("train", "training", "trn", "trainval"))
HELD_OUT = frozenset(("val", "valid", "validate", "validation", "test", "testing", "tst"))
HELD_OUT |= {"dev", "eval", "evaluation", "heldout", "holdout"}
OF_DATA = frozenset(("set", "sets", "split", "data", "dataset", "folder"))
OF_DATA |= {"image", "images", "img", "imgs"}

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # of training_set, TestImages, val2017, trainA
_JOINED = re.compile(rf"({'|'.join(TRAIN | HELD_OUT)})({'|'.join(OF_DATA)})")  # of testset


def _words(name: str) -> list[str]:
    words = (word.lower() for word in _WORD.findall(name))
    return [_JOINED.sub(r"\1", word) if _JOINED.fullmatch(word) else word for word in words]


def is_train(name: str) -> bool:
    """Whether a name has a word for training images."""
    return not TRAIN.isdisjoint(_words(name))


def is_held_out(name: str, *, wholly: bool = False) -> bool:
    """Whether a name has a word for validation or test images.

    Args:
      name: of a folder.
      wholly: it must say nothing else: `test_set` does, `test_tube` may be a class.
    """
    words = _words(name)
    others = {word for word in words if len(word) > 1} - HELD_OUT - OF_DATA
    return not HELD_OUT.isdisjoint(words) and not (wholly and others)
