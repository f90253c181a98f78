"""From a configuration to the pieces of a run: data, devices, method, optimiser."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from swav_jax import config as config_lib
from swav_jax import limits, optim, sharding
from swav_jax.augment.crops import multi_crop
from swav_jax.augment.photometric import Augment, augment
from swav_jax.caching import check_host_memory, on_devices, size_on_devices
from swav_jax.data import resize
from swav_jax.data.batch import Batch, CropSpecs, TrainBatch, TrainBatches, Uncut
from swav_jax.data.cached import Cached, CachedBatches
from swav_jax.data.host_memory import in_memory
from swav_jax.data.index import OrderFn
from swav_jax.data.sizes import some_sizes
from swav_jax.data.sources.pixels import Pixels
from swav_jax.data.sources.source import Source
from swav_jax.evals.labelled import Images
from swav_jax.images import (
    as_evaluated,
    on_evaluated_images,
    on_own_folder,
    open_images,
    open_split,
    open_test_images,
)
from swav_jax.methods import METHODS
from swav_jax.methods.contract import Crops, Method, Sizes
from swav_jax.models.alexnet_vgg import SobelNet
from swav_jax.models.backbones import backbone
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.ops.precision import at_least_float32
from swav_jax.runtime import processes


@dataclass(frozen=True, eq=False)  # hashed by identity: a static argument of jitted functions
class Run:
    """What a configuration means on these devices."""

    config: ConfigDict  # its durations in steps
    mesh: Mesh
    source: Source  # the training images
    sizes: Sizes
    method: Method
    optimizer: optax.GradientTransformation
    schedule: optim.Schedule
    augment: Callable[..., Crops]  # (batch, epoch) to float crops
    cached_size: tuple[int, int] | None  # H and W of images that are to stay on the devices

    @cached_property
    def cached(self) -> Cached | None:
        """The training images on the devices, decoded when they are asked for; None: by the host.

        All processes ask for them at the same time.

        Raises:
          DataError: too many cannot be read, or `data.cache` is device and they differ in size.
        """
        if self.cached_size is None:
            return None
        return on_devices(self.config, self.source, self.mesh, self.cached_size)

    @property
    def crops_by(self) -> str:
        """What cuts the crops: by another one, grey levels differ a little."""
        return "the devices" if self.cached or self.canvas else resize.library()

    @cached_property
    def canvas(self) -> int | None:
        """Side in pixels of the canvases on which the devices get images; None: they get none."""
        data = self.config.data
        if data.crop_on != "device" or self.cached:
            return None
        from swav_jax.data.canvases import canvas_side  # TensorFlow takes seconds

        return canvas_side(data.crops, some_sizes(self.source))

    @cached_property
    def read_source(self) -> Source:
        """The training images as the host reads them: from its memory if `data.cache` is host.

        Raises:
          DataError: too many cannot be read.
        """
        data = self.config.data
        if data.cache != "host":
            return self.source
        return in_memory(self.source, data.max_bad_fraction, data.threads)

    @cached_property
    def train_images(self) -> Images:
        """The images whose labels vote: those that `eval` names, or the training images."""
        config = self._evaluated
        if config.data == self.config.data:
            return as_evaluated(config, self.source)
        return open_images(config, config.data.train, self._pixels(config))

    @cached_property
    def test_images(self) -> Images | None:
        """The images to classify, or None if there are none."""
        return open_test_images(self._evaluated, self._pixels(self._evaluated))

    @cached_property
    def _evaluated(self) -> ConfigDict:
        """The settings with the images of evaluations; making them looks through a folder."""
        return on_evaluated_images(self.config)

    def _pixels(self, config: ConfigDict) -> Pixels | None:
        """Those of the training images, for images of the same data set."""
        same = all(config.data[key] == self.config.data[key] for key in ("name", "data_dir"))
        return self.source.pixels if same else None

    @property
    def sources(self) -> list[Source]:
        """All images that the run reads: to train on, to vote, to be classified."""
        evaluated = [images.source for images in (self.train_images, self.test_images) if images]
        return [self.source, *evaluated]


def build(
    config: ConfigDict, source: Source | None = None, devices: Sequence[Any] | None = None
) -> Run:
    """Opens the data, makes the method and checks all settings, before anything is computed.

    Args:
      config: of the run.
      source: the training images, if not those of `config.data`.
      devices: to train on, if not all.

    Raises:
      ConfigError: the first setting that cannot work, with a remedy.
    """
    devices = jax.devices() if devices is None else devices
    limits.check(config, len(devices))
    config = on_own_folder(config)
    data = config.data
    if source is None:
        source = open_split(config, data.train)
    if data.cache == "host":
        check_host_memory(source)
    sizes = config_lib.sizes(config, source.size)
    sizes = sizes._replace(data_devices=len(devices) // config.mesh.model)
    given, config = config, config_lib.in_steps(config, sizes.steps_per_epoch)
    _check_image_sizes(config)
    method, mesh = make_method(config, source), make_mesh(config, devices)
    try:
        warnings = method.check(sizes)
    except ValueError as problem:
        raise config_lib.ConfigError(str(problem)) from None
    epochs = sizes.total_steps / sizes.steps_per_epoch
    warnings += optim.lr_warnings(config.optim, data.batch_size, epochs)
    warnings += limits.duration_warnings(given)
    warnings += limits.split_warnings(config)
    for warning in warnings:
        processes.warn(warning)
    cached_size = size_on_devices(config, source, mesh)
    return Run(
        config=config,
        mesh=mesh,
        source=source,
        sizes=sizes,
        method=method,
        optimizer=make_optimizer(config, method),
        schedule=optim.schedule(
            config.optim, steps_per_epoch=sizes.steps_per_epoch, total_steps=sizes.total_steps
        ),
        augment=make_augment(config, cached_size),
        cached_size=cached_size,
    )


def _check_image_sizes(config: ConfigDict) -> None:
    """Checks the sizes of images for networks that end in linear layers over all positions.

    Raises:
      ConfigError: images of several sizes, or too small ones.
    """
    network = make_encoder(config).backbone
    if not isinstance(network, SobelNet):
        return
    arch, data = config.model.arch, config.data
    evaluated = data.eval_crop or data.eval_resize  # 0: whole images, of a size not known here
    sizes = {crop[1] for crop in data.crops} | ({evaluated} if evaluated else set())
    if len(sizes) > 1:
        raise config_lib.ConfigError(
            f"model.arch {arch} takes images of one size, but data.crops and data.eval_crop have "
            f"{', '.join(map(str, sorted(sizes)))} pixels"
        )
    (size,) = sizes
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    try:
        jax.eval_shape(partial(network.init, train=False), jax.random.key(0), image)
    except ValueError as problem:
        raise config_lib.ConfigError(f"model.arch {arch}: {problem}") from None


def make_mesh(config: ConfigDict, devices: Sequence[Any]) -> Mesh:
    """The mesh of devices that `config.mesh` describes.

    Raises:
      ConfigError: these devices cannot form it.
    """
    try:
        return sharding.make_mesh(config.mesh.model, devices)
    except ValueError as problem:
        raise config_lib.ConfigError(str(problem)) from None


def make_encoder(config: ConfigDict) -> Encoder:
    """The networks of `config.model`."""
    model = config.model
    dtype, param_dtype = jnp.dtype(model.dtype), at_least_float32(model.dtype)
    shared = {"dtype": dtype, "param_dtype": param_dtype, "bn_groups": model.bn_groups}
    head = ProjectionHead(
        model.head_hidden, model.dim, model.head_layers, model.head_norm, **shared
    )
    settings = {"stem": model.stem, "width": model.width, "remat": config.train.remat}
    return Encoder(backbone(model.arch, **settings, **shared), head)


def make_method(config: ConfigDict, source: Source | None = None) -> Method:
    """The method of `config.method`, whose durations are in steps, with the parts that it needs.

    Args:
      config: of the run.
      source: the training images, for a method that learns from labels.
    """
    method, model = METHODS[config.method.name], config.model
    names = [field.name for field in dataclasses.fields(method)]
    parts = config.method.to_dict() | {
        "encoder": make_encoder(config),
        "prototypes": model.prototypes,
        "heads": model.prototype_heads,
    }
    if "labels" in names:  # reading them can take a pass over the data set
        parts["labels"] = source.labels if source else None
    return method(**{name: parts[name] for name in names})


def make_optimizer(config: ConfigDict, method: Method) -> optax.GradientTransformation:
    """The optimiser of `config.optim`, for a method's parameters."""
    settings = config.optim
    return optim.optimizer(
        settings.name,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        without_momentum=method.without_momentum,
    )


def make_augment(config: ConfigDict, image_size: tuple[int, int] | None) -> Callable[..., Crops]:
    """The device augmentation of `config.augment`, as a function of (batch, epoch).

    Args:
      config: of the run.
      image_size: H and W of the images of an `Uncut`, if there will be any.
    """
    settings = Augment(**config.augment.to_dict())

    def augment_batch(batch: TrainBatch, epoch: int | Int[Array, ""]) -> Crops:
        crops = cut_batch(batch, config.data.crops, image_size).crops
        return augment(crops, batch.sample, seed=config.seed, epoch=epoch, settings=settings)

    return augment_batch


def cut_batch(batch: TrainBatch, crops: CropSpecs, image_size: tuple[int, int] | None) -> Batch:
    """Inside `jax.jit`: the batch with its crops, which are cut if they are not yet.

    Args:
      batch: of any kind.
      crops: `(count, size, ...)` for each resolution.
      image_size: H and W of the images of an `Uncut`; other batches need none.
    """
    if isinstance(batch, Batch):
        return batch
    images = batch.images
    if isinstance(batch, Uncut):
        assert image_size
        with jax.named_scope("take_images"):
            images = sharding.take(images, batch.index).reshape(-1, *image_size, 3)
    views = multi_crop(images, batch.boxes, [crop[:2] for crop in crops])
    return Batch(views, batch.index, batch.sample)


def training_batches(
    run: Run, first_step: int, last_step: int | None = None, order: OrderFn | None = None
) -> TrainBatches:
    """This process's part of the batches to train on, by `data.cache` and `data.crop_on`.

    Args:
      run: whose images they are.
      first_step: global step of the first batch.
      last_step: global step before which to stop; None for never.
      order: of the images in an epoch, see `train_batches`; None for a random one.
    """
    data, cached = run.config.data, run.cached
    settings: dict[str, Any] = {
        "seed": run.config.seed,
        "first_step": first_step,
        "last_step": last_step,
        "process": jax.process_index(),
        "processes": jax.process_count(),
        "order": order,
    }
    if cached:
        return CachedBatches(cached, data.crops, data.batch_size, **settings)
    from swav_jax.data.batches import train_batches  # TensorFlow takes seconds

    return train_batches(
        run.read_source,
        data.crops,
        data.batch_size,
        max_bad_fraction=data.max_bad_fraction,
        threads=data.threads,
        canvas=run.canvas,
        **settings,
    )
