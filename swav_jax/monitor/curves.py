"""A picture of a run's metrics, for those who have matplotlib (`pip install swav_jax[viz]`)."""

import io
import logging as python_logging
from importlib.util import find_spec

from absl import logging

from swav_jax.runtime.storage import AnyPath, write_whole
from swav_jax.workdir import CURVES, read_metrics, read_results, scores_before_training

PANELS = (
    "loss",
    "knn_top1",
    "classify_top1",
    "code_entropy",
    "prototypes_used",
    "embedding_std",
    "lr",
)


def draw_curves(workdir: AnyPath) -> None:
    """Draws `curves.png` from `metrics.jsonl`: the metrics of PANELS that the run has, by epoch."""
    if not find_spec("matplotlib"):
        logging.info("no curves.png: matplotlib is not installed")
        return
    # Its first start on a machine logs that it has listed the fonts.
    python_logging.getLogger("matplotlib").setLevel(python_logging.WARNING)
    from matplotlib.figure import Figure

    logged = read_metrics(workdir)
    lines = [{"epoch": 0.0} | scores_before_training(read_results(workdir)), *logged]
    curves = {
        name: [(line["epoch"], line[name]) for line in lines if name in line]
        for name in PANELS
        if any(name in line for line in logged)
    }
    if not curves:
        return
    figure = Figure(figsize=(3.2 * min(len(curves), 3), 2.4 * -(-len(curves) // 3)))
    axes = figure.subplots(-(-len(curves) // 3), min(len(curves), 3), squeeze=False)
    for axis, (name, points) in zip(axes.flat, curves.items(), strict=False):
        axis.plot(*zip(*points, strict=True), marker="." if len(points) < 20 else "")
        axis.set_title(name.replace("_", " "))
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(curves) :]:
        axis.set_visible(False)
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120)
    write_whole(workdir / CURVES, picture.getvalue())
