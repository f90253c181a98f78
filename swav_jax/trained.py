"""A trained network with the settings that it was trained with, and images to use it on."""

import dataclasses
import hashlib
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh
from jaxtyping import PyTree
from ml_collections import ConfigDict

from swav_jax.checkpoints.read import find, load_metadata, load_variables
from swav_jax.checkpoints.seal import CheckpointError, read_seal
from swav_jax.config import ConfigError, in_steps, to_dict
from swav_jax.data.batch import batch_shapes
from swav_jax.data.sources.source import DataError, MissingSplit
from swav_jax.data.sources.text import read_lines
from swav_jax.evals.labelled import Images
from swav_jax.evals.subset import listed
from swav_jax.images import on_evaluated_images, on_own_folder, open_images, open_test_images
from swav_jax.limits import check
from swav_jax.models.encoder import Encoder
from swav_jax.run import make_encoder, make_mesh, make_method
from swav_jax.runtime.storage import AnyPath
from swav_jax.runtime.xla import RUNS_ONCE
from swav_jax.versions import as_config, changes
from swav_jax.workdir import CONFIG, read_config


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """The networks of a run's checkpoint.

    Attributes:
      config: the run's settings; those of `eval` may be others.
      workdir: of the run.
      checkpoint: that was read.
      encoder: backbone and head.
      variables: `{"params": ..., "batch_stats": ...}` of all that the method trains: `backbone`,
        `head`, `prototypes`.
      mesh: the devices that they are on.
      identity: differs between any two networks.
    """

    config: ConfigDict
    workdir: AnyPath
    checkpoint: AnyPath
    encoder: Encoder
    variables: dict[str, Any]
    mesh: Mesh
    identity: str

    @cached_property  # `test_images` asks for them too: what is to be noted is said once
    def train_images(self) -> Images:
        """The images whose labels vote, or train a classifier."""
        config = on_evaluated_images(self.config)
        return open_images(config, config.data.train)

    def test_images(self) -> Images | None:
        """The images to classify, or None if there are none.

        Raises:
          MissingSplit: there is no split `eval.test`.
        """
        config = on_evaluated_images(self.config)
        pixels = self.train_images.source.pixels if config.data.test else None
        return open_test_images(config, pixels)

    def images(self) -> Images:
        """The images to embed, to cluster and to look at.

        Any number of them may be unreadable: whoever reads them leaves these out and names them.

        Raises:
          DataError: they cannot be opened; `eval.images` lists what is neither a file nor a record.
        """
        wanted = self.config.eval.images
        try:
            is_list = Path(wanted).expanduser().is_file()
            images = _listed(self.config) if is_list else _to_look_at(self.config)
        except MissingSplit as missing:
            if not wanted:
                raise
            what = f"eval.images {wanted!r} is neither a file that lists images nor a split"
            raise DataError(f"{what}: {missing}") from None
        return dataclasses.replace(images, max_bad_fraction=1.0)


def _to_look_at(config: ConfigDict, **settings: str) -> Images:
    """The images that `eval`, changed by `settings`, names to embed and to look at."""
    config = config.copy_and_resolve_references()
    config.eval.update(settings)
    split = config.eval.images or config.eval.train
    config = on_evaluated_images(config)
    # Of a folder that is not the run's, all images are meant: nothing is trained on them.
    everything = bool(config.eval.data_dir) and config.data.name == "folder"
    return open_images(config, split or ("." if everything else config.data.train))


def _listed(config: ConfigDict) -> Images:
    """The images in the list `eval.images`: files, or records by the names that tables give them.

    Records are those of the images that would be looked at without a list, in their order.
    """
    path = config.eval.images
    try:
        return _to_look_at(config, data_name="folder", data_dir=path, images=".")
    except DataError as no_files:
        everything = _to_look_at(config, images="")
        source = everything.source
        if source.path:  # the images have files: the list was meant to name such
            raise
        names = [line.decode(errors="replace").strip() for line in read_lines(path)]
        try:
            numbers = listed(source, names)
        except DataError as no_records:
            raise DataError(f"{no_files}. As records of the data set: {no_records}") from None
    labels = np.full(source.size, -1, np.int32) if source.labels is None else source.labels
    part = source.part(numbers, labels[numbers], source.class_names)
    return dataclasses.replace(everything, source=part)


def settings_of(workdir: AnyPath) -> ConfigDict:
    """The settings of a run: its newest checkpoint's, or those that it began with if it is damaged.

    Raises:
      FileNotFoundError: there is no checkpoint.
      CheckpointError: it is damaged, and there is no `config.json`.
      ConfigError: a newer version made it.
    """
    try:
        saved = load_metadata(workdir)["config"]
    except CheckpointError as damage:
        saved = read_config(workdir)
        if not saved:
            raise
        logging.warning("%s: the settings are those of %s", damage, workdir / CONFIG)
    return as_config(saved)


def open_trained(config: ConfigDict, workdir: AnyPath) -> Trained:
    """The networks of the newest checkpoint in a workdir.

    Args:
      config: the run's settings, see `settings_of`; those of `eval` may be others.
      workdir: of the run.

    Raises:
      ConfigError: the checkpoint is of another network, or a setting cannot work.
      CheckpointError: it is damaged.
      FileNotFoundError: there is none.
    """
    checkpoint = find(workdir)
    theirs = load_metadata(checkpoint)["config"]
    if network := [change for change in changes(theirs, config) if change.startswith("model.")]:
        raise ConfigError(
            f"the run in {workdir} has another network than --config ({'; '.join(network)}): leave "
            "--config out, or use the one that it was trained with"
        )
    config = on_own_folder(config.copy_and_resolve_references())
    config.mesh.model = 1  # the devices may be others than those of training
    check(config, devices=1)
    mesh = make_mesh(config, jax.devices())
    with jax.set_mesh(mesh):
        variables, _ = load_variables(checkpoint)
    leaves = read_seal(checkpoint)["leaves"]
    digests = {
        name: leaf["digest"]
        for name, leaf in leaves.items()
        if name.startswith(("params/", "batch_stats/"))
    }
    return Trained(
        config=config,
        workdir=workdir,
        checkpoint=checkpoint,
        encoder=make_encoder(config),
        variables=variables,
        mesh=mesh,
        identity=hashlib.blake2b(str(sorted(digests.items())).encode()).hexdigest(),
    )


def at_random(trained: Trained) -> Trained:
    """The same networks before training, as the run's seed drew them."""
    config = trained.config
    method = make_method(in_steps(config, steps_per_epoch=1))  # durations do not matter here
    examples = batch_shapes(config.data.crops, config.model.bn_groups).crops

    @partial(jax.jit, compiler_options=RUNS_ONCE)
    def draw() -> dict[str, PyTree]:
        dtype = trained.encoder.head.param_dtype
        crops = [jnp.zeros(example.shape, dtype) for example in examples]
        params, batch_stats, _ = method.init(jax.random.key(config.seed), crops, size=1)
        return {"params": params, "batch_stats": batch_stats}

    drawn = f"{config.method.name}, seed {config.seed}: {to_dict(config.model)}"
    with jax.set_mesh(trained.mesh):
        return dataclasses.replace(trained, variables=draw(), identity=drawn)
