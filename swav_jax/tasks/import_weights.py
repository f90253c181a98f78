"""The task `import`: makes a workdir of a file of weights that another library wrote."""

from collections.abc import Collection

import jax
import jax.numpy as jnp
from absl import logging
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from swav_jax.checkpoints.store import Checkpoints
from swav_jax.config import INIT_PARTS, ConfigError, defaults, to_dict
from swav_jax.limits import check
from swav_jax.runtime.storage import AnyPath
from swav_jax.weights.foreign import read_weights
from swav_jax.weights.origin import open_origin
from swav_jax.weights.preprocessing import BILINEAR, read_preprocessing
from swav_jax.workdir import CHECKPOINTS, METRICS, RESULTS, claim, locked, saved_steps

# Pixels of the shorter side and of the centre crop, by the stem: names and shapes do not say them.
IMAGENET, SMALL = (256, 224), (32, 32)


def settings_of_file(path: str, parts: str = "auto") -> ConfigDict:
    """The settings that a file of weights says, and defaults for all others.

    Args:
      path: as `read_weights` takes it.
      parts: as `init_parts` names them.

    Raises:
      ConfigError: there is no path.
      WeightsError: the file cannot be used.
      FileNotFoundError: there is no such file.
    """
    if not path:
        raise ConfigError("--task=import needs --config.init_from=FILE")
    weights = read_weights(path, INIT_PARTS if parts == "auto" else parts.split(","))
    config = defaults(_method(weights.parts, weights.model["arch"]))
    config.model.update(weights.model)
    config.model.dtype = "float32"  # as in the file
    resize, crop = IMAGENET if weights.model["stem"] == "imagenet" else SMALL
    config.augment.std = weights.format.std
    if said := read_preprocessing(path):
        images, file = said
        config.augment.mean, config.augment.std = images["mean"], images["std"]
        resize, crop = images["resize"], images["crop"]
        logging.info("%s says how images are prepared: %s", file, images)
        if images["interpolation"] != BILINEAR:
            logging.warning("images are resized bilinearly here, not as by %s", file)
    config.data.eval_resize, config.data.eval_crop = resize, crop
    config.data.crops = ((2, crop or IMAGENET[1], 0.08, 1.0),)
    return config


def _method(parts: Collection[str], arch: str) -> str:
    """A method that trains the parts of a file."""
    for part, method in (("key_encoder", "moco"), ("prototypes", "swav"), ("head", "simclr")):
        if part in parts:
            return method
    return "deepcluster" if arch.endswith("_sobel") else "swav"


def import_weights(config: ConfigDict, workdir: AnyPath) -> None:
    """Writes `config.json` and a checkpoint of step 0 into a new workdir.

    Args:
      config: of `settings_of_file` and flags, or of `--config`, which must then fit.
      workdir: where no run is.

    Raises:
      ConfigError: there is a run in the workdir, or the settings do not fit the file.
      WeightsError: the file cannot be used.
    """
    if jax.process_count() > 1:
        raise ConfigError("--task=import runs in one process")
    check(config, devices=1)
    origin = open_origin(config)
    with locked(workdir):
        used = (workdir / METRICS).exists() or (workdir / RESULTS).exists()
        if used or saved_steps(workdir / CHECKPOINTS):
            raise ConfigError(f"{workdir} holds a run already: choose another --workdir")
        claim(config, workdir)
        with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
            state = {name: jnp.asarray(leaf) for name, leaf in origin.items()}
            metadata = {"config": to_dict(config), "images": 0}
            checkpoints.save(0, unflatten_dict(state, sep="/"), metadata)
    logging.info("%s is a workdir now, for evaluations and for --config.init_from", workdir)
