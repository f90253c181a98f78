"""The task `plan`: does a training fit a TPU slice, how long does it take there, and for how much?

The TPU's own compiler answers, without a TPU.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from swav_jax.config import ConfigError, sizes
from swav_jax.data.sizes import common_size
from swav_jax.data.sources.source import DataError
from swav_jax.images import on_own_folder, open_split
from swav_jax.plan.chips import CHIPS, Chip
from swav_jax.plan.compiled import compile_step, topology
from swav_jax.plan.estimate import estimate, needed_bytes
from swav_jax.runtime.storage import AnyPath, make_folder, write_whole
from swav_jax.workdir import PLAN

# For those who plan before they have the data: images of the splits that the configs train on, and
# their H and W if all have the same.
PUBLISHED: dict[str, tuple[int, tuple[int, int] | None]] = {
    "tfds:imagenet2012": (1_281_167, None),
    "tfds:cifar10": (50_000, (32, 32)),
}
PARTS = (2, 4, 8, 16)  # that a batch may be processed in to fit
HALVED = "data.batch_size"  # the setting that is tried last
GIB = 2**30


def plan_task(
    config: ConfigDict, workdir: AnyPath, topology_name: str, price_per_chip_hour: float
) -> None:
    """Compiles the step, prints what it takes, and writes `plan.json`.

    If the step does not fit, it is tried with activations computed again (`train.remat`), in more
    and more parts (`train.accumulate`), and at last with half the batch.

    Args:
      config: of the run.
      workdir: where `plan.json` goes.
      topology_name: of the slice, like "v5e:8x8".
      price_per_chip_hour: in any currency; 0 for none.

    Raises:
      ConfigError: the slice is not known, a setting cannot work on it, or the price is none.
    """
    if not 0 <= price_per_chip_hour < math.inf:
        raise ConfigError(f"--price_per_chip_hour={price_per_chip_hour} must be 0 or more")
    chip, devices = _slice(topology_name)
    config = on_own_folder(config.copy_and_resolve_references())
    images, image_size = _training_images(config)
    found: dict[str, Any] = {"topology": topology_name, "chips": len(devices), "images": images}
    found |= _first_that_fits(config, chip, devices, images, image_size)
    if "step_seconds" in found:
        fitting = config.copy_and_resolve_references()
        fitting.update_from_flattened_dict(found["fits_with"])
        found["hours"] = sizes(fitting, images).total_steps * found["step_seconds"] / 3600
        if price_per_chip_hour:
            found["price"] = found["hours"] * len(devices) * price_per_chip_hour
    make_folder(workdir)
    write_whole(workdir / PLAN, json.dumps(found, indent=2) + "\n")
    print(_as_text(found, config))


def _slice(topology_name: str) -> tuple[Chip, list[Any]]:
    """The chips of a slice, and all its devices.

    Raises:
      ConfigError: it is not known.
    """
    chip = CHIPS.get(topology_name.partition(":")[0])
    if not topology_name:
        raise ConfigError("--task=plan needs --topology: name a slice of TPU chips like v5e:8x8")
    if chip is None:
        raise ConfigError(
            f"--topology={topology_name} is of no chip that is known here, which are "
            f"{', '.join(CHIPS)}: name a slice like v5e:8x8"
        )
    try:
        return chip, topology(topology_name)
    except RuntimeError as problem:
        raise ConfigError(str(problem)) from None


def _first_that_fits(
    config: ConfigDict,
    chip: Chip,
    devices: Sequence[Any],
    images: int,
    image_size: tuple[int, int] | None,
) -> dict[str, Any]:
    """For `plan.json`: what the step takes by the first of `_ways` that fits, and what was tried.

    Args:
      config: of the run.
      chip: of the slice.
      devices: of the slice.
      images: that are trained on.
      image_size: H and W of all of them, or None.

    Raises:
      ConfigError: a setting cannot work.
    """
    tried: dict[str, int] = {}
    usable = {"usable_bytes_per_device": int(chip.memory)}
    found: dict[str, Any] = {"fits": False, "tried": tried} | usable
    for way in _ways(config):
        here, flags = config.copy_and_resolve_references(), _flags(way)
        here.update_from_flattened_dict(way)
        logging.info("compiling the step for %d chips, %s: a minute or more", len(devices), flags)
        start = time.perf_counter()
        try:
            compiled = compile_step(here, devices, images, image_size)
        except ConfigError:
            if not tried:
                raise
            continue  # the network cannot compute again, or the batch cannot be divided so
        except Exception as error:
            if (needed := needed_bytes(error)) is None:
                raise
            much = f"{needed / GIB:.1f} of" if needed else "more than"
            logging.info("it does not fit: %s %.2f GiB", much, chip.memory / GIB)
            tried[flags] = needed
            continue
        found["compile_seconds"] = time.perf_counter() - start
        share = here.data.batch_size / len(devices)
        fits = {"fits": not tried, "fits_with": way}
        return found | estimate(compiled, chip, share) | fits
    return found


def _ways(config: ConfigDict) -> Iterator[dict[str, Any]]:
    """Settings to try: the config's own, then more and more parts, each also with `remat`.

    `remat` costs arithmetic but changes no result; parts change what batch norm averages. Half the
    batch, which is what each chip has where there are twice as many, comes last: it changes the
    training.
    """
    for more in (1, *PARTS):
        for remat in dict.fromkeys((config.train.remat, "block")):
            yield {"train.accumulate": more * config.train.accumulate, "train.remat": remat}
    parts, half = config.train.accumulate, config.data.batch_size // 2
    yield {"train.accumulate": parts, "train.remat": "block", HALVED: half}


def _flags(way: dict[str, Any]) -> str:
    return " ".join(f"--config.{key}={value}" for key, value in way.items())


def _training_images(config: ConfigDict) -> tuple[int, tuple[int, int] | None]:
    """How many there are, and their common size: of a known data set also if it is not here."""
    try:
        source = open_split(config, config.data.train)
    except DataError as missing:
        if config.data.name not in PUBLISHED:
            raise
        whole, size = PUBLISHED[config.data.name]
        images = _images_of(config.data.train, whole)
        logging.info("the data are not here (%s): planning for %d images", missing, images)
        return images, size
    return source.size, common_size(source)


def _images_of(split: str, whole: int) -> int:
    """How many images a split has, such as `train[:20%]`, if `train` has so many.

    Raises:
      ConfigError: it is of another split.
    """
    from tensorflow_datasets.core import splits  # with its reader of TFDS's slices

    known = {"train": splits.SplitInfo(name="train", shard_lengths=[whole], num_bytes=0)}
    try:
        slices = splits.ReadInstruction.from_spec(split).to_absolute(known)
    except (AssertionError, KeyError, ValueError) as error:
        raise ConfigError(
            f"without the data the size of data.train={split!r} is not known, only that of train: "
            "plan with --config.data.train=train or a slice of it, or set data.data_dir to the data"
        ) from error
    return sum((part.to or whole) - (part.from_ or 0) for part in slices)


def _as_text(found: dict[str, Any], config: ConfigDict) -> str:
    lines = [f"{found['topology']}: {found['chips']} chips, batch {config.data.batch_size}"]
    usable = found["usable_bytes_per_device"] / GIB
    for flags, needed in found["tried"].items():
        much = f": needs {needed / GIB:.1f} GiB" if needed else ""
        lines.append(f"does not fit with {flags}{much} of {usable:.2f} GiB on a chip")
    if "step_seconds" not in found:
        halved = any(HALVED in flags for flags in found["tried"])
        return "\n".join(
            [
                *lines,
                "take more than twice the chips, or less than half of data.batch_size"
                if halved
                else "take more chips, or a smaller data.batch_size; half of it was not possible",
            ]
        )
    lines.append("fits" if found["fits"] else f"fits with {_flags(found['fits_with'])}")
    if HALVED in found["fits_with"]:
        lines.append("so twice the chips would do for the whole batch, with train.remat=block")
    of = {kind: found[f"{kind}_bytes_per_device"] / GIB for kind in ("argument", "output", "temp")}
    least = found["least_seconds"]
    longest = max(least, key=least.__getitem__)
    messages = "; ".join(f"{k} {n / 2**20:.3g} MiB" for k, n in found["collectives"].items())
    lines += [
        f"memory of a chip  {found['memory_share']:.0%}: state and batch {of['argument']:.2f} GiB, "
        f"temporary {of['temp']:.2f} GiB, new {of['output']:.2f} GiB",
        f"work an image     {found['flops_per_image'] / 1e9:.4g} GFLOP, "
        f"{found['hbm_bytes_per_image'] / 1e9:.3g} GB of HBM",
        f"messages          {messages or 'none'}",
        f"least time        {1000 * found['step_seconds']:.4g} ms a step, by {longest} ("
        + ", ".join(f"{kind} {1000 * seconds:.3g}" for kind, seconds in least.items())
        + ")"
        + (", without memory on the chip: no lower bound" if longest == "memory" else ""),
        f"at most           {found['images_per_second_per_chip']:.4g} images a second and chip",
        f"the training      at least {found['hours']:.3g} hours"
        + (f", {found['price']:.4g} at that price" if "price" in found else ""),
        *(f"{op['share']:17.1%} {op['name']}" for op in found["expensive_operations"]),
        f"compiled in       {found['compile_seconds']:.0f} s",
    ]
    return "\n".join(lines)
