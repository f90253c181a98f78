"""Learning visual features by clustering: SwAV and its relatives in JAX/Flax."""

from pathlib import Path

from swav_jax.weights.backbone import load_backbone

__all__ = ["load_backbone", "report"]


def report(workdir: str | Path) -> Path:
    """Writes `report.html`, the page that shows a run, and returns where it is.

    Raises:
      FileNotFoundError: there is no trained network in the workdir.
    """
    from swav_jax.tasks.report import report_task  # a second, only for those who want it
    from swav_jax.trained import settings_of
    from swav_jax.workdir import REPORT

    workdir = Path(workdir).expanduser()
    report_task(settings_of(workdir), workdir)
    return workdir / REPORT
