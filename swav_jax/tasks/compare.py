"""The task `compare`: several runs beside each other, in one page and one table."""

from collections.abc import Sequence

import jax
from absl import logging
from ml_collections import ConfigDict

from swav_jax.config import ConfigError
from swav_jax.pages.compare import Compared, compare, text_table
from swav_jax.runtime.storage import AnyPath, located, write_whole
from swav_jax.tasks.figures import aligned
from swav_jax.trained import settings_of
from swav_jax.workdir import COMPARISON, read_metrics, read_results


def compare_task(config: ConfigDict, workdir: AnyPath, others: Sequence[str] = ()) -> None:
    """Writes `compare.html` into the first run's workdir, and prints the figures.

    Args:
      config: of the first run.
      workdir: of the first run.
      others: workdirs of the others.

    Raises:
      ConfigError: there are no others, or a run is named twice.
      FileNotFoundError: one of them is no workdir.
    """
    if jax.process_index() != 0:
        return
    folders = [workdir, *map(located, others)]
    if len({str(folder) for folder in folders}) < max(len(folders), 2):
        raise ConfigError(
            "--task=compare needs --workdir of one run and --others=runs/b,runs/c, each run once"
        )
    settings = [config, *map(settings_of, folders[1:])]
    runs = [
        Compared(name, own, read_metrics(folder), read_results(folder))
        for name, own, folder in zip(_names(folders), settings, folders, strict=True)
    ]
    page = workdir / COMPARISON
    write_whole(page, compare(runs))
    print(aligned(text_table(runs)))
    logging.info("wrote %s", page)


def _names(folders: Sequence[AnyPath]) -> list[str]:
    """The names of folders, with as much of what is above as makes them differ."""
    length = 1
    while len({folder.parts[-length:] for folder in folders}) < len(folders):
        length += 1
    return ["/".join(folder.parts[-length:]) for folder in folders]
