import math
import pickle
import random

import pytest

from swav_jax.monitor.history import FEW, RECENT, VITAL, History


def long_run(lines, seed=0):
    """A line with a loss and others every step, an evaluation and a clustering now and then."""
    draw = random.Random(seed)
    loss, queue_from = 4.0, draw.randrange(lines)
    for step in range(lines):
        if step % 20 == 5:
            yield {"step": step, "knn_top1": draw.uniform(10, 90)}
        if step % 50 == 7:
            yield {"step": step, "clusters_used": draw.random(), "largest_cluster": draw.random()}
        loss += draw.gauss(-0.001, 0.1)
        line = {"step": step, "loss": loss, "gradient_norm": draw.random(), "agreement": 0.5}
        if draw.random() < 0.9:
            line["queue_used"] = float(step >= queue_from)
        for name in ("loss", "gradient_norm", "agreement"):
            if draw.random() < 0.02 and step > lines // 3:
                line[name] = draw.choice((math.nan, math.inf))
        yield line


def with_finite(lines, *names):
    return [line for line in lines if all(math.isfinite(line.get(n, math.nan)) for n in names)]


def mean_loss(lines):
    return sum(line["loss"] for line in lines) / len(lines)


def steps(lines):
    return [line["step"] for line in lines]


@pytest.mark.parametrize("seed", range(5))
def test_it_tells_at_every_moment_what_all_lines_would(seed):
    history, lines = History(), []
    for line in long_run(300, seed):
        history.add(line)
        lines.append(line)
        assert history.last["step"] == line["step"]
        assert history.names == set().union(*lines)
        for names in (("loss",), ("loss", "agreement"), ("knn_top1",), ("step",), ("absent",)):
            expected = with_finite(lines, *names)[-RECENT - 1 :]
            assert steps(history.recent(*names)) == steps(expected)
        bad = [x for x in lines if any(not math.isfinite(x.get(name, 0.0)) for name in VITAL)]
        assert history.first_bad is (bad[0] if bad else None)

        older = with_finite(lines, "loss")[: -2 * FEW]
        windows = [older[i : i + FEW] for i in range(len(older) - FEW + 1)]
        assert steps(history.best) == steps(min(windows, key=mean_loss, default=[]))

        queue = with_finite(lines, "loss", "queue_used")
        without, using = ([x for x in queue if x["queue_used"] == used] for used in (0.0, 1.0))
        assert steps(history.before_queue) == steps(without[-RECENT:])
        assert steps(history.with_queue) == steps(using[-RECENT:])
        assert history.queue_began is None or history.queue_began["step"] == using[0]["step"]


def test_it_does_not_grow():
    short, long = (len(pickle.dumps(History(long_run(lines)))) for lines in (2_000, 40_000))
    assert long < 1.5 * short  # twenty times as many lines, and a rare kind or two more
