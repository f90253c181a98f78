import pytest

from swav_jax.monitor import profile


def test_steps_of_a_trace():
    assert profile.steps("") == range(0)
    assert profile.steps("10:15") == range(10, 15)
    for text in ("10", "5:5", "7:3", "a:b", "-1:3"):
        with pytest.raises(ValueError, match="like 10:15"):
            profile.steps(text)
