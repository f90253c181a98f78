import pytest

from swav_jax.hosts import LaunchError, join


@pytest.mark.parametrize("told", [("", 2, 0), ("localhost:1", 0, -1), ("localhost:1", 2, 2)])
def test_processes_must_be_told_all_of_who_they_are(told):
    with pytest.raises(LaunchError, match="must be given together"):
        join(*told)
