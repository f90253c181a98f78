import re

import pytest

from swav_jax.pages.published import Published
from swav_jax.pages.tables import (
    checks,
    evaluations,
    findings,
    measures,
    results_table,
    seconds_of,
    settings_list,
)

RESULTS = {
    "knn": {"top1": 93.6, "random_init_top1": 87.2, "k": 20, "test_images": 297},
    "linear": {"top1": 95.0, "protocol": "SGD <slow>", "images": {"test": "9 images"}},
    "doctor": {"findings": {}},
    "earlier": [{"task": "knn", "top1": 1.0}],
    "classify": {"random_init_top1": 10.0},
}
DOCTOR = """# Doctor's report after step 3 of 9

## The loss is stuck at ln K

The loss stays at 3.0 < 3.1.

Known to help:

- lower method.epsilon
- fewer prototypes

## Checks

- The loss is finite.
"""


def cells(html):
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<(?:th scope=\"row\"|td[^>]*)>(.*?)</t[hd]>", row) for row in rows]


def test_figures_with_those_before_training_and_published_ones():
    assert list(evaluations(RESULTS)) == ["knn", "linear"]
    html = results_table(RESULTS, {("linear", "top1"): Published(75.3, "Caron et al., 2020")})
    assert cells(html)[1:] == [
        ["top-1 accuracy, %", "93.6", "87.2", ""],
        ["top-1 accuracy, %", "95", "", "75.3 (Caron et al., 2020)"],
    ]
    assert "k 20; test images 297" in html and "SGD &lt;slow&gt;; test: 9 images" in html
    assert "Published" not in results_table(RESULTS, {})
    assert "No evaluation was made" in results_table({"doctor": {}}, {})


def test_what_was_chosen_or_counted_is_no_figure():
    svm = {"top1": 80.0, "cost": 0.5, "low_shot_1": 60.0}
    linear = {"fast_top1": 90.0, "fast_penalty": 1e-3}
    unlabelled = {"clusters": 3, "median": 4.0, "median_1": 2.0, "clustered": 13}
    assert measures(svm) == {"top1": 80.0, "low_shot_1": 60.0}
    assert measures(linear) == {"fast_top1": 90.0}
    assert list(evaluations({"svm": svm, "cluster": unlabelled})) == ["svm"]


def test_the_doctors_page():
    ((title, html),) = findings(DOCTOR)
    assert title == "The loss is stuck at ln K"
    assert html.startswith("<p>The loss stays at 3.0 &lt; 3.1.</p>")
    assert html.endswith("<ul><li>lower method.epsilon</li><li>fewer prototypes</li></ul>")
    assert checks(DOCTOR) == "<ul><li>The loss is finite.</li></ul>"


def test_settings_that_differ_come_first():
    html = settings_list({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
    first, everything = html.split("<details>")
    assert re.findall(r"<dt><code>(.*?)</code>", first) == ["a.c"]
    assert re.findall(r"<dt><code>(.*?)</code>", everything) == ["a.b", "a.c"]


def test_duration_from_throughput():
    lines = [
        {"step": 1, "loss": 1.0},  # the first step has none: it compiles
        {"step": 11, "loss": 1.0, "images_per_second": 32.0},
        {"step": 11, "knn_top1": 50.0},
        {"step": 31, "loss": 1.0, "images_per_second": 16.0},
    ]
    assert seconds_of(lines, 16) == pytest.approx(10 * 16 / 32 + 20 * 16 / 16)
