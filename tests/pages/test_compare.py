import re

from small_run import history, small

from swav_jax.pages.compare import Compared, compare, figures_of, text_table

RUNS = [
    Compared(
        "a<b",
        small(),
        history(epoch=lambda step: step / 11),
        {"knn": {"top1": 60.0, "random_init_top1": 20.0, "k": 20}, "doctor": {"findings": {}}},
    ),
    Compared(
        "c",
        small(**{"optim.base_lr": 1.0}),
        history(loss=2.5, epoch=lambda step: step / 11),
        {"knn": {"top1": 70.0, "k": 20, "images": {"test": "3 images"}}, "quality": {"alpha": 1.5}},
    ),
]


def test_figures_beside_each_other():
    assert figures_of(RUNS) == {("knn", "top1"): [60.0, 70.0], ("quality", "alpha"): [None, 1.5]}
    assert text_table(RUNS) == [
        ("", "a<b", "c"),
        ("knn top1", "60", "70"),
        ("quality alpha", "", "1.5"),
    ]


def test_the_page():
    page = compare(RUNS).decode()
    assert "a&lt;b" in page and "a<b" not in page.replace("a&lt;b", "")
    assert '<td class="number best">70</td>' in page and '<td class="number">60 ' in page
    assert "Not all by the same protocol" in page
    settings = re.search(r'<section id="settings".*?</section>', page, re.DOTALL)[0]
    assert re.findall(r'<th scope="row"><code>(.*?)</code>', settings) == ["optim.base_lr"]
    loss = re.search(r'<svg[^>]*aria-label="Loss: ([^"]*)"', page)[1]
    assert loss == "a&lt;b from 3.2 to 3.2; c from 2.5 to 2.5"


def test_the_best_is_marked_where_more_is_better():
    figures = ({"low_shot_1": 60.0, "low_shot_1_std": 2.0}, {"low_shot_1": 50.0})
    figures[1]["low_shot_1_std"] = 9.0
    runs = [run._replace(results={"svm": one}) for run, one in zip(RUNS, figures, strict=True)]
    page = compare(runs).decode()
    assert re.findall(r'"number best">([^<]*)<', page) == ["60"]


def test_nothing_to_compare():
    page = compare([run._replace(lines=[], results={}, config=small()) for run in RUNS]).decode()
    assert "None of the runs has been evaluated." in page and "<svg" not in page
