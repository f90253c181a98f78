"""The command line: python main.py --config=configs/X.py --workdir=DIR [--task=pretrain]."""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/; single settings by --config.section.key=value."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives: results and checkpoints.")
_TASK = flags.DEFINE_string("task", "pretrain", "What to do: pretrain, knn.")


def main(argv: list[str]) -> None:
    """Runs one task."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; settings are --config.key=value")
    # JAX and TensorFlow load only now: --help and mistyped flags answer at once.
    from swav_jax.startup import start
    from swav_jax.tasks import TASKS, UserError

    if _TASK.value not in TASKS:
        raise app.UsageError(f"unknown --task={_TASK.value}; known are {', '.join(TASKS)}")
    logging.set_verbosity(logging.INFO)
    start()
    try:
        TASKS[_TASK.value](_CONFIG.value, Path(_WORKDIR.value or ""))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
