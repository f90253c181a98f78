"""The images that a configuration names: to train on, to vote, to be classified, to look at."""

from absl import logging
from ml_collections import ConfigDict

from swav_jax import config as config_lib
from swav_jax.data.sources import is_own_folder, open_source
from swav_jax.data.sources.pixels import Pixels
from swav_jax.data.sources.source import MissingSplit, Source
from swav_jax.evals.labelled import Images
from swav_jax.runtime import processes


def on_own_folder(config: ConfigDict) -> ConfigDict:
    """The configuration for a folder of images, if `data_dir` of a TFDS data set names one.

    So `--config.data.data_dir=/my/images` alone applies any recipe to one's own images. Slices such
    as `train[:20%]` are meant for the data set: of the folder, all images are used.
    """
    data = config.data
    if not data.name.startswith("tfds:") or data.download or not is_own_folder(data.data_dir):
        return config
    config = config.copy_and_resolve_references()
    processes.warn(
        f"data.data_dir {data.data_dir} holds images and no prepared data set: these are used"
    )
    config.data.name = "folder"
    for section, splits in (("data", ("train", "test")), ("eval", ("train", "test", "images"))):
        for split in splits:
            config[section][split] = config[section][split].partition("[")[0]
    return config


def on_evaluated_images(config: ConfigDict) -> ConfigDict:
    """The configuration with the data set and the splits of `eval` in the section `data`.

    Slices of the training run's splits, such as `train[:20%]`, are meant for its own data set, and
    so are images as they are: others are resized and cut to the size of the largest training crop.
    """
    config, wanted = config.copy_and_resolve_references(), config.eval
    data = config.data
    data.train, data.test = config_lib.train_split(config), config_lib.test_split(config)
    if not (wanted.data_name or wanted.data_dir):
        return config
    data.train = wanted.train or data.train.partition("[")[0]
    data.test = wanted.test or data.test.partition("[")[0]
    data.image_key = data.label_key = ""
    if not wanted.data_name and (data.name == "digits" or is_own_folder(wanted.data_dir)):
        data.name = "folder"
    name, before = wanted.data_name or data.name, data.name
    same_kind = name.partition(":")[0] == before.partition(":")[0]
    data.name, data.data_dir = name, wanted.data_dir or (data.data_dir if same_kind else "")
    if not (data.eval_resize or data.eval_crop):  # the run's images have one size, others may not
        data.eval_resize = data.eval_crop = max(crop[1] for crop in data.crops)
    return config


def open_split(config: ConfigDict, split: str, pixels: Pixels | None = None) -> Source:
    """A split of the data set of `config.data`; warns of what of it is not used.

    Args:
      config: of the run.
      split: of the data set.
      pixels: those of the training images, if they are open, so that all are shown alike.

    Raises:
      MissingSplit: the data set has no such split.
      DataError: there is no such data set, or it is not known what in it to read.
    """
    data = config.data
    source = open_source(
        data.name,
        data.data_dir,
        split,
        download=data.download,
        image_key=data.image_key,
        label_key=data.label_key,
        pixels=pixels or Pixels(data.background, data.white_level, data.exif_orientation),
    )
    for note in source.notes:
        processes.warn(note)
    return source


def open_images(config: ConfigDict, split: str, pixels: Pixels | None = None) -> Images:
    """The images of a split, as evaluations read them; arguments and errors as of `open_split`."""
    return as_evaluated(config, open_split(config, split, pixels))


def open_test_images(config: ConfigDict, pixels: Pixels | None = None) -> Images | None:
    """The images of `config.data.test` as of `open_images`, or None if there are none.

    Raises:
      MissingSplit: there is no split `eval.test`: one that is asked for is there.
    """
    if not config.data.test:
        return None
    try:
        return open_images(config, config.data.test, pixels)
    except MissingSplit as missing:
        if config.eval.test:
            raise
        logging.info("no evaluation on test images: %s", missing)
        return None


def as_evaluated(config: ConfigDict, source: Source) -> Images:
    """A source's images, cut and normalised as the configuration says."""
    data, augmentation = config.data, config.augment
    return Images(
        source,
        resize=data.eval_resize,
        crop=data.eval_crop,
        mean=tuple(augmentation.mean),
        std=tuple(augmentation.std),
        batch_size=config.eval.batch_size,
        max_bad_fraction=data.max_bad_fraction,
        threads=data.threads,
    )
