import numpy as np
import pytest
from PIL import Image

from swav_jax.monitor.curves import draw_curves
from swav_jax.workdir import append_metrics, replace_results, update_results


@pytest.fixture
def figures(monkeypatch):
    """The titles and points of the panels of every figure that is saved."""
    from matplotlib.figure import Figure

    found, save = [], Figure.savefig

    def note(figure, *args, **kwargs):
        panels = [axis for axis in figure.axes if axis.get_visible()]
        found.append({a.get_title(): a.lines[0].get_xydata().tolist() for a in panels})
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", note)
    return found


def test_a_panel_for_each_metric_that_the_run_has(tmp_path, figures):
    for step in (1, 50, 100):
        append_metrics(tmp_path, {"step": step, "epoch": step / 100, "loss": 3.0 - step / 100})
    append_metrics(tmp_path, {"step": 100, "epoch": 1.0, "knn_top1": 80.0, "other": 1.0})
    update_results(tmp_path, "knn", {"random_init_top1": 60.0, "images": {"test": "digits"}})
    others = {"random_init_top1": 10.0, "images": {"test": "photos"}}
    replace_results(tmp_path, "knn", others)
    draw_curves(tmp_path)
    losses = [[0.01, 2.99], [0.5, 2.5], [1.0, 2.0]]
    assert figures == [{"loss": losses, "knn top1": [[0.0, 60.0], [1.0, 80.0]]}]
    assert np.ptp(np.asarray(Image.open(tmp_path / "curves.png"))) > 0  # not one colour


def test_a_run_that_logged_nothing_has_no_picture(tmp_path, figures):
    draw_curves(tmp_path)
    assert figures == [] and not (tmp_path / "curves.png").exists()


def test_matplotlib_is_not_needed(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("absl.logging.info", lambda text, *args: said.append(text))
    monkeypatch.setattr("swav_jax.monitor.curves.find_spec", lambda name: None)
    append_metrics(tmp_path, {"step": 1, "epoch": 1.0, "loss": 3.0})
    draw_curves(tmp_path)
    assert said == ["no curves.png: matplotlib is not installed"]
    assert not (tmp_path / "curves.png").exists()
