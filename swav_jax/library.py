"""Training and trained networks in other programs: `swav_jax.load`, `pretrain` and `report`.

Thin over what the tasks do, so that a notebook and the command line give the same numbers.
"""

import dataclasses
import os
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from ml_collections import ConfigDict
from PIL import Image

from swav_jax.answers import find_clusters, read_rows
from swav_jax.config import ConfigError, of_method
from swav_jax.data.crops import central_crop
from swav_jax.data.sources.listed import open_paths
from swav_jax.data.sources.memory import open_arrays
from swav_jax.data.sources.pixels import Pixels, look_at_open, rgb_of
from swav_jax.data.sources.source import DataError
from swav_jax.evals.labelled import Images
from swav_jax.images import as_evaluated, on_evaluated_images, open_split
from swav_jax.limits import check
from swav_jax.models.backbones import Backbone
from swav_jax.runtime.storage import AnyPath, located
from swav_jax.runtime.xla import reuse_freed_memory, start
from swav_jax.tables import Table
from swav_jax.tasks import run_task
from swav_jax.trained import Trained, open_trained, settings_of
from swav_jax.workdir import REPORT

Picture = Image.Image | np.ndarray
SomeImages = str | Path | Sequence[str | Path] | Sequence[Picture] | np.ndarray


class Embeddings(np.ndarray):
    """A float32 array [N, F] with `paths`, the file or number of each image."""

    paths: list[str] | None  # None for what is computed from these

    def __array_finalize__(self, _: Any) -> None:
        self.paths = None


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """How a network wants images: the preprocessing that belongs to its weights.

    Attributes:
      resize: pixels of the shorter side before the centre crop.
      crop: S, pixels of the crop.
      mean: of each channel, of values from 0 to 1.
      std: of each channel.
      pixels: how stored pixels become 8-bit RGB. Without `data.white_level`, 65535 is white in an
        image of more than 8 bits; `TrainedRun.embed` finds a level for all its images.
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels: Pixels

    def __call__(self, image: Image.Image | np.ndarray) -> Float32[np.ndarray, "S S 3"]:
        """Resizes, cuts and normalises an image, to the same pixels as everywhere here."""
        levels = np.asarray(central_crop(_array(image, self.pixels), self.resize, self.crop))
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return (levels.astype(np.float32) / 255 - mean) / std


class TrainedRun:
    """A trained network with the settings of its run.

    Attributes:
      config: the run's settings.
      model: the Flax module of the backbone; `model.apply(variables, images, train=False)` gives
        features [B, F] of `preprocess`ed images [B, S, S, 3].
      variables: of the backbone: `{"params": ..., "batch_stats": ...}`.
      preprocess: from a Pillow image to what the network wants.
    """

    def __init__(self, trained: Trained) -> None:
        self._trained = trained
        self.config = trained.config
        self.model: Backbone = trained.encoder.backbone
        self.variables = {
            collection: tree["backbone"] for collection, tree in trained.variables.items()
        }
        given = as_evaluated(self._on_others(), open_arrays([]))
        data = self.config.data
        self.preprocess = Preprocess(
            given.resize,
            given.crop,
            tuple(given.mean),
            tuple(given.std),
            Pixels(data.background, data.white_level, data.exif_orientation),
        )

    def embed(self, images: SomeImages, layer: str = "pooled") -> Embeddings:
        """What the network gives for images, float32 [N, F], with `paths`.

        Features of files are kept in the workdir; the next time they are read from there.

        Args:
          images: a folder, of which all images that can be read are embedded, or a text file that
            lists some; or files, Pillow images or uint8 arrays [H, W, 3] in a list, or an array
            [N, H, W, 3].
          layer: `pooled` features, `embedding`, or a stage such as `c5` for maps [N, h, w, C].

        Raises:
          DataError: there are no images, or one that was named cannot be read.
          ConfigError: the network has no such layer.
        """
        rows = read_rows(self._trained, self._images(images), layer)
        found = rows.features.view(Embeddings)
        found.paths = rows.names.tolist()
        return found

    def clusters(self, images: SomeImages, by: str = "", clusters: int = 100) -> Table:
        """The cluster of each image: columns `path`, `cluster`, `score`, ..., and `to_csv`.

        Args:
          images: as of `embed`.
          by: `prototypes`, `sinkhorn` or `kmeans`; "" for prototypes if the method has any.
          clusters: of k-means.

        Raises:
          DataError: there are no images, or one that was named cannot be read.
          ConfigError: there are no such clusters.
        """
        config = self.config.copy_and_resolve_references()
        config.eval.update(cluster_by=by, clusters=clusters)
        check(config, devices=1)
        trained = dataclasses.replace(self._trained, config=config)
        return find_clusters(trained, self._images(images)).table()

    def _images(self, images: SomeImages) -> Images:
        config, pixels = self._on_others(), self.preprocess.pixels
        if isinstance(images, str | Path):
            if not Path(images).expanduser().exists():
                raise DataError(f"there is neither a folder nor a list of images at {images}")
            config.data.data_dir = str(images)
            found = as_evaluated(config, open_split(config, "."))
            return dataclasses.replace(found, max_bad_fraction=1.0)
        if not len(images):
            raise DataError("there are no images")
        paths = [path for path in images if isinstance(path, str | Path)]
        if len(paths) == len(images):
            source = open_paths([os.fsencode(Path(path).expanduser()) for path in paths], pixels)
        else:
            pixels = look_at_open(images, pixels)
            source = open_arrays([_array(image, pixels) for image in images])
        return dataclasses.replace(as_evaluated(config, source), max_bad_fraction=0.0)

    def _on_others(self) -> ConfigDict:
        """The settings for images that are not the run's own."""
        config = self.config.copy_and_resolve_references()
        config.eval.data_name, config.eval.data_dir = "folder", "."
        return on_evaluated_images(config)


def prepare_process() -> None:
    """Gives this process the settings that `main.py` gives its own; nothing else here does.

    They are for the whole process: XLA's flags for convolutions on a CPU, the folder where JAX
    keeps compiled programs, and on a CPU a C library that keeps the memory that is freed, instead
    of returning it to the system. So a training runs as fast as on the command line, and to the
    same bits.

    Call it in the first cell of a notebook: JAX reads these settings when it first looks for
    devices, and later they have no effect.
    """
    start()
    reuse_freed_memory()


def load(path: str | AnyPath) -> TrainedRun:
    """The trained network of a run.

    ```python
    run = swav_jax.load("runs/mine")
    embeddings = run.embed("photos")  # float32 [N, F], with embeddings.paths
    run.clusters("photos").to_csv("clusters.csv")
    ```

    Args:
      path: the run's workdir; its newest checkpoint is read.

    Raises:
      FileNotFoundError: there is no checkpoint.
      CheckpointError: it is damaged.
      ConfigError: a newer version made it.
    """
    workdir = located(path)
    return TrainedRun(open_trained(settings_of(workdir), workdir))


def pretrain(
    config: ConfigDict | str | Path, workdir: str | AnyPath, **settings: Any
) -> TrainedRun:
    """Trains a network, or resumes its training, and returns it.

    It changes no settings of the process: call `prepare_process` first, for the full speed.

    ```python
    run = swav_jax.pretrain("configs/quickstart.py", "runs/mine", **{"train.epochs": 8})
    ```

    Args:
      config: all settings, or a file of `configs/`.
      workdir: of the run.
      **settings: single ones by "section.key"; `method.name` first puts that method's settings in.

    Raises:
      ConfigError: a setting cannot work.
      DataError: the images cannot be used.
      OSError: the workdir cannot be written to.
    """
    if not isinstance(config, ConfigDict):
        config = runpy.run_path(str(Path(config).expanduser()))["get_config"]()
    config = config.copy_and_resolve_references()
    if "method.name" in settings:
        config = of_method(config, settings["method.name"])
    try:
        config.update_from_flattened_dict(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(str(error)) from None
    run_task("pretrain", config, located(workdir))
    return load(workdir)


def report(workdir: str | AnyPath) -> AnyPath:
    """Writes `report.html`, the page that shows a run, and returns where it is.

    Raises:
      FileNotFoundError: there is no trained network in the workdir.
      OSError: the workdir cannot be written to.
    """
    folder = located(workdir)
    run_task("report", settings_of(folder), folder)
    return folder / REPORT


def _array(image: Any, pixels: Pixels) -> UInt8[np.ndarray, "H W 3"]:
    if isinstance(image, Image.Image):
        return rgb_of(image, pixels)
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8):
        kind = getattr(image, "dtype", type(image).__name__)
        raise DataError(f"an image is a Pillow image or an array of uint8, not {kind}")
    if image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"an image is an array [H, W, 3], not of the shape {image.shape}")
    return image
