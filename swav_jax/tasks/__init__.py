"""What `main.py --task` chooses from."""

import pkgutil
from typing import Any

from ml_collections import ConfigDict

from swav_jax.checkpoints.seal import CheckpointError
from swav_jax.config import ConfigError
from swav_jax.data.sources.source import DataError
from swav_jax.monitor.doctor import Diverged
from swav_jax.runtime.processes import LaunchError
from swav_jax.runtime.storage import AnyPath, check_writable
from swav_jax.weights.torch_io import WeightsError

# Errors that say what the user can do; all others are ours and keep their traceback.
UserError = (
    ConfigError,
    DataError,
    CheckpointError,
    WeightsError,
    Diverged,
    LaunchError,
    OSError,
)

# Functions of (config, workdir), by module and name: only the chosen one is imported, because what
# they import takes seconds.
TASKS = {
    "pretrain": "swav_jax.train:pretrain",
    "import": "swav_jax.tasks.import_weights:import_weights",
    "knn": "swav_jax.tasks.knn:knn_task",
    "linear": "swav_jax.tasks.linear:linear_task",
    "semisup": "swav_jax.tasks.semisup:semisup_task",
    "finetune": "swav_jax.tasks.finetune:finetune_task",
    "report": "swav_jax.tasks.report:report_task",
    "compare": "swav_jax.tasks.compare:compare_task",
    "export": "swav_jax.tasks.export:export_task",
    "svm": "swav_jax.tasks.svm:svm_task",
    "plan": "swav_jax.tasks.plan:plan_task",
    "retrieval": "swav_jax.tasks.retrieval:retrieval_task",
    "embed": "swav_jax.tasks.embed:embed_task",
    "cluster": "swav_jax.tasks.cluster:cluster_task",
    "curate": "swav_jax.tasks.curate:curate_task",
}


def run_task(name: str, config: ConfigDict, workdir: AnyPath, **flags: Any) -> None:
    """Runs a task, if its results can be written: they are known only after the work.

    Args:
      name: of TASKS.
      config: all settings.
      workdir: of the run.
      flags: further arguments of that task.

    Raises:
      UserError: one that says what the user can do.
      SystemExit: after a signal, see `train.pretrain`.
    """
    check_writable(workdir)
    pkgutil.resolve_name(TASKS[name])(config, workdir, **flags)
