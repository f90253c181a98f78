import pytest

from swav_jax.data.sources import open_source
from swav_jax.data.sources.source import DataError


def test_unknown_sources_are_refused(tmp_path):
    with pytest.raises(DataError, match="digits, folder or tfds:"):
        open_source("digitz", "", "train")
    with pytest.raises(DataError, match=r"data\.label_key name features .* is 'digits'"):
        open_source("digits", "", "train", label_key="label")
    with pytest.raises(DataError, match="knows no 'no_such_set'"):
        open_source("tfds:no_such_set", str(tmp_path), "train")
    with pytest.raises(DataError, match=r"not prepared in .*data\.data_dir"):
        open_source("tfds:cifar10", str(tmp_path), "train")
