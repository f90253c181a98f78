"""What `main.py --task` chooses from."""

from swav_jax.checkpoints.seal import CheckpointError
from swav_jax.config import ConfigError
from swav_jax.data.sources.source import DataError
from swav_jax.monitor.doctor import Diverged
from swav_jax.runtime.processes import LaunchError

# Errors that say what the user can do; all others are ours and keep their traceback.
UserError = (ConfigError, DataError, CheckpointError, Diverged, LaunchError, OSError)

# Functions of (config, workdir), by module and name: only the chosen one is imported, because what
# they import takes seconds.
TASKS = {
    "pretrain": "swav_jax.train:pretrain",
    "knn": "swav_jax.tasks.knn:knn_task",
}
