"""The command line: python main.py --config=configs/X.py --workdir=DIR [--task=pretrain]."""

import sys
import traceback
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from swav_jax import hosts
from swav_jax.config import of_chosen_method
from swav_jax.startup import keep_memory, start
from swav_jax.tasks import TASKS, UserError

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/; single settings by --config.section.key=value."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives: results and checkpoints.")
_TASK = flags.DEFINE_string("task", "pretrain", f"What to do: {', '.join(TASKS)}.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "address:port of process 0, to train with several processes."
)
_PROCESSES = flags.DEFINE_integer("processes", 0, "With --coordinator: how many processes.")
_PROCESS = flags.DEFINE_integer("process", -1, "With --coordinator: the number of this one.")


def parse(argv: list[str]) -> list[str]:
    """The arguments that are no flags; a wrong flag ends the process with one line."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, TypeError) as error:  # of ml_collections: no such setting
        what = str(error).replace("\\n", ". ").replace("\\", "").replace("'", "").strip('"')
        sys.exit(f"error: --config has no setting {what}")
    except OSError as error:
        sys.exit(f"error: --config cannot be read: {' '.join(str(error).split())}")


def main(argv: list[str]) -> None:
    """Runs one task."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; settings are --config.key=value")
    if _TASK.value not in TASKS:
        raise app.UsageError(f"unknown --task={_TASK.value}; known are {', '.join(TASKS)}")
    logging.set_verbosity(logging.INFO)
    start()
    config = of_chosen_method(
        _CONFIG.value, config_flags.get_override_values(flags.FLAGS["config"])
    )
    try:
        hosts.join(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        keep_memory()
        TASKS[_TASK.value](config, Path(_WORKDIR.value or ""))
    except UserError as error:
        hosts.fail(f"error: {error}")
        sys.exit(1)
    except Exception:
        hosts.fail(traceback.format_exc())
        sys.exit(1)
    finally:
        hosts.leave()


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse)
