"""What `main.py --task` chooses from."""

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from swav_jax.checkpoints.seal import CheckpointError
from swav_jax.config import ConfigError
from swav_jax.data.sources.source import DataError
from swav_jax.monitor.doctor import Diverged
from swav_jax.runtime.processes import LaunchError
from swav_jax.tasks.knn import knn_task
from swav_jax.train import pretrain

# Errors that say what the user can do; all others are ours and keep their traceback.
UserError = (ConfigError, DataError, CheckpointError, Diverged, LaunchError, OSError)

TASKS: dict[str, Callable[[ConfigDict, Path], None]] = {
    "pretrain": pretrain,
    "knn": knn_task,
}
