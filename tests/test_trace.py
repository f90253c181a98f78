import pytest

from swav_jax import trace


def test_steps_of_a_trace():
    assert trace.steps("") == range(0)
    assert trace.steps("10:15") == range(10, 15)
    for text in ("10", "5:5", "7:3", "a:b", "-1:3"):
        with pytest.raises(ValueError, match="like 10:15"):
            trace.steps(text)
