"""The command line: python main.py [--task=T] [--config=configs/X.py] --workdir=DIR."""

import os
import re
import sys
import traceback

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from swav_jax.config import of_method
from swav_jax.methods import METHODS
from swav_jax.runtime import processes
from swav_jax.runtime.flag_errors import one_line_errors
from swav_jax.runtime.stderr import without_noise
from swav_jax.runtime.storage import AnyPath, located
from swav_jax.runtime.xla import reuse_freed_memory, start
from swav_jax.tasks import TASKS, UserError, run_task

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/; single settings by --config.section.key=value."
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "The folder of the run, on a disk or gs://..., s3://...: results and checkpoints.",
)
_TASK = flags.DEFINE_string("task", "pretrain", f"What to do: {', '.join(TASKS)}.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "address:port of process 0, to train with several processes."
)
_PROCESSES = flags.DEFINE_integer("processes", 0, "With --coordinator: how many processes.")
_PROCESS = flags.DEFINE_integer("process", -1, "With --coordinator: the number of this one.")

_FORMAT = flags.DEFINE_string("format", "", "What --task=export writes: see docs/transfer.md.")
_OTHERS = flags.DEFINE_list("others", [], "What --task=compare compares with: workdirs, a,b,c.")
_TOPOLOGY = flags.DEFINE_string("topology", "", "The TPU slice of --task=plan, like v5e:8x8.")
_PRICE = flags.DEFINE_float("price_per_chip_hour", 0.0, "For --task=plan, in any currency.")
# Flags that only one task takes, by its arguments.
OF_TASK: dict[str, dict[str, flags.FlagHolder]] = {
    "export": {"format": _FORMAT},
    "compare": {"others": _OTHERS},
    "plan": {"topology_name": _TOPOLOGY, "price_per_chip_hour": _PRICE},
}

METHOD = "--config.method."
_LATE: list[str] = []  # flags of settings that are not known before `config`, put off by `parse`


def parse(argv: list[str]) -> list[str]:
    """The arguments that are not flags; a wrong flag ends the process with one line.

    With `--config.method.name` the flags of the section `method` wait until `config` has put the
    chosen method's settings there: those of the file may be another method's. Without `--config`
    all flags of settings wait for those of the run in the workdir, or of the file to import.
    """
    late = "--config." if not any(re.match("--?config(=|$)", flag) for flag in argv) else METHOD
    if late != METHOD or any(flag.startswith(f"{METHOD}name") for flag in argv):
        for flag in [flag for flag in argv if flag.startswith(late)]:
            if "=" not in flag:
                why = f"with {METHOD}name" if late == METHOD else "without --config"
                sys.exit(f"error: {why} write {flag}=VALUE")
            argv.remove(flag)
            _LATE.append(flag)
    # Shells leave the tilde of --config=~/mine.py as it is.
    argv = [re.sub(r"^(--?config=)(~.*)", _expanded, flag) for flag in argv]
    with one_line_errors():
        return flags.FLAGS(argv)


def _expanded(flag: re.Match[str]) -> str:
    return flag[1] + os.path.expanduser(flag[2])


def config(task: str, workdir: AnyPath) -> ConfigDict:
    """The settings: the config file's, or the run's or the imported file's, with the flags' values.

    Raises:
      UserError: there is no such run.
    """
    values = dict(flag.split("=", 1) for flag in _LATE)
    name = values.get(f"{METHOD}name")
    if isinstance(_CONFIG.value, dict):
        sys.exit("error: get_config in the file of --config must return a ConfigDict, not a dict")
    if not _CONFIG.value and task == "pretrain":
        sys.exit("error: --task=pretrain needs --config, such as --config=configs/quickstart.py")
    if _CONFIG.value:
        chosen = _CONFIG.value
    elif task == "import":
        file, parts = (values.get(f"--config.{key}") for key in ("init_from", "init_parts"))
        chosen = _settings_of_file(file or "", parts or "auto")
    else:
        chosen = _settings_of(workdir)
    with one_line_errors():
        if _CONFIG.value:
            chosen = of_method(chosen, name or chosen.method.name)
            if name not in METHODS:
                return chosen
        late, argv = flags.FlagValues(), ["main.py", *_LATE]
        config_flags.DEFINE_config_dict("config", chosen, flag_values=late, sys_argv=argv)
        late(argv)
    return late.config


def _settings_of(workdir: AnyPath) -> ConfigDict:
    from swav_jax.trained import settings_of  # what it imports takes seconds

    return settings_of(workdir)


def _settings_of_file(path: str, parts: str) -> ConfigDict:
    from swav_jax.tasks.import_weights import settings_of_file

    return settings_of_file(path, parts)


def refuse_ignored_flags(task: str) -> None:
    """Ends the process if a flag is given that only another task takes."""
    for other, own in OF_TASK.items():
        for flag in own.values():
            if flag.present and task != other:
                hint = "; tables have that of --config.eval.format" if flag is _FORMAT else ""
                sys.exit(f"error: --{flag.name} is of --task={other}, not of --task={task}{hint}")


def main(argv: list[str]) -> None:
    """Runs one task."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}; settings are --config.key=value")
    if _TASK.value not in TASKS:
        sys.exit(f"error: unknown --task={_TASK.value}; known are {', '.join(TASKS)}")
    if not _WORKDIR.value:
        sys.exit("error: --workdir is needed, the folder of the run, and it must not be empty")
    refuse_ignored_flags(_TASK.value)
    logging.set_verbosity(logging.INFO)
    without_noise()
    start()
    reuse_freed_memory()
    try:
        workdir = located(_WORKDIR.value)
        settings = config(_TASK.value, workdir)
    except UserError as error:
        sys.exit(f"error: {error}")
    try:
        processes.join(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        given = {name: flag.value for name, flag in OF_TASK.get(_TASK.value, {}).items()}
        run_task(_TASK.value, settings, workdir, **given)
    except UserError as error:
        processes.fail(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        processes.fail("interrupted")
        sys.exit(130)
    except Exception:
        processes.fail(traceback.format_exc())
        sys.exit(1)
    finally:
        processes.leave()


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
