import json
import re

import pytest

from swav_jax.pages.curves import (
    HEIGHT,
    LEFT,
    MOST,
    RIGHT,
    WIDTH,
    curve,
    marks,
    metric_curves,
    ticks,
)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.5, 1]),
        (1.14, 3.01, [1, 1.5, 2, 2.5, 3, 3.5]),
        (0.0, 0.02, [0, 0.005, 0.01, 0.015, 0.02]),
        (87.2, 93.6, [86, 88, 90, 92, 94]),
        (-3.0, 3.0, [-4, -2, 0, 2, 4]),
    ],
)
def test_ticks_are_round_and_enclose(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 5.0, -1e-7])
def test_a_curve_that_is_flat_has_ticks(value):
    steps = ticks(value, value)
    assert steps[0] <= value <= steps[-1] and len(set(steps)) >= 2


def points(svg):
    return json.loads(re.search(r"data-points='(.*?)'", svg)[1].replace("&quot;", '"'))


def test_points_lie_where_they_should():
    svg = curve("Loss", {"": [(0.0, 4.0), (1.0, 2.0), (2.0, 0.0)]})
    drawn = points(svg)
    assert [x for x, *_ in drawn] == [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]
    assert drawn[0][1] < drawn[1][1] < drawn[2][1] < HEIGHT
    assert drawn[1][1] == pytest.approx((drawn[0][1] + drawn[2][1]) / 2, abs=0.1)
    assert "<b>0</b>" in svg and drawn[1][2] == "2 at epoch 1"


def test_long_runs_are_averaged_and_end_where_they_end():
    drawn = points(curve("Loss", {"": [(float(i), float(i % 2)) for i in range(1, 2001)]}))
    assert len(drawn) == MOST
    assert drawn[0][2] == "0.5 at epoch 10" and drawn[-1][2] == "0 at epoch 2000"


def test_metrics_begin_before_training_where_that_was_measured():
    lines = [
        {"step": 1, "epoch": 0.1, "loss": 3.0, "unknown": 2.0},
        {"step": 2, "epoch": 0.2, "loss": 2.0, "lr": 0.1},
        {"step": 2, "epoch": 0.2, "knn_top1": 60.0},
    ]
    results = {
        "knn": {"random_init_top1": 90.0, "top1": 95.0},  # of other images, by a task
        "earlier": [{"task": "knn", "random_init_top1": 50.0, "top1": 60.0}],
    }
    assert metric_curves(lines, results) == {
        "loss": [(0.1, 3.0), (0.2, 2.0)],
        "knn_top1": [(0.0, 50.0), (0.2, 60.0)],
    }  # one point makes no line


def test_ln_k_is_marked_where_the_loss_predicts_one_of_k():
    lines = [{"step": 1, "epoch": 0.1, "loss": 3.0, "code_entropy": 1.0}]
    assert marks(lines, 20)["loss"].value == pytest.approx(2.9957, abs=1e-4)
    assert "ln K = 3.00" in curve("Loss", {"": [(0.1, 3.0)]}, marks(lines, 20)["loss"])
    assert marks([{"step": 1, "epoch": 0.1, "loss": 3.0}], 20) == {}
