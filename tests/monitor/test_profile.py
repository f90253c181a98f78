import jax
import pytest

from swav_jax.monitor.profile import Profiler


@pytest.mark.parametrize(
    ("asked", "made", "profiled"),
    [
        (range(2, 4), range(6), [2, 3]),
        (range(2, 5), range(3, 6), [3, 4]),  # a run that was resumed
        (range(2, 9), range(4), [2, 3]),  # a run that ended before
        (range(0), range(6), None),
        (range(2, 4), range(4, 6), None),
    ],
)
def test_a_trace_holds_the_steps_that_were_asked_for(tmp_path, monkeypatch, asked, made, profiled):
    steps, traces = [], {}
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: steps.clear())
    monkeypatch.setattr(
        jax.profiler, "stop_trace", lambda: traces.setdefault(len(traces), list(steps))
    )
    profiler = Profiler(asked, tmp_path)
    for step in made:
        profiler.before(step)
        steps.append(step)
        profiler.after(step, jax.numpy.zeros(()))
    profiler.close()
    assert list(traces.values()) == ([profiled] if profiled else [])


def test_a_trace_follows_the_devices_and_not_the_threads_of_python(tmp_path):
    double = jax.jit(lambda x: x * 2)
    profiler = Profiler(range(1), tmp_path)
    profiler.before(0)
    profiler.after(0, double(jax.numpy.ones(8)))
    (trace,) = tmp_path.rglob("*.xplane.pb")
    assert b"PjitFunction" in trace.read_bytes()
    assert b"$profile.py" not in trace.read_bytes()  # how JAX names calls of Python
