import dataclasses

import numpy as np
import pytest
from absl import logging

from swav_jax.data.sources.memory import open_arrays
from swav_jax.data.sources.source import DataError
from swav_jax.data.unreadable import note, replacement_step


def test_each_is_named_once_and_too_many_are_refused(monkeypatch):
    told = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: told.append(text % args))
    source = open_arrays([np.zeros((1, 1, 3), np.uint8)] * 10)
    source = dataclasses.replace(source, explain=lambda i: f"reason {i}")
    note(source, [7, 2], 0.2)
    note(source, [2], 0.2)
    assert source.unreadable == {2, 7} and len(told) == 2
    assert told[0].startswith("image 7 cannot be read (reason 7); training shows another")
    with pytest.raises(DataError, match=r"3 of 10 .*: image 2 \(reason 2\), image 5 .* allows 2"):
        note(source, [5], 0.2)


def test_replacements_visit_every_image():
    for size in (1, 2, 3, 5, 10, 64, 1797):
        step = replacement_step(size)
        assert len({k * step % size for k in range(size)}) == size
