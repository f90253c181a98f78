"""How fast the host makes batches of crops or canvases, beside decoding alone and Pillow.

    python -m benchmarks.data --data_dir=DIR_OF_IMAGES [--crops=2x224,6x96] [--seconds=10]

The peer does what PyTorch users' loaders do, by Pillow in one process a core: decode, then
RandomResizedCrop V times; crops only, no photometric augmentation, as here. The last line is JSON:
`ratio` is ours over the peer's, `ratio_to_decode_only` ours over decoding alone, the limit, and
`canvases_ratio_to_decode_only` the same where the devices are to cut (`data.crop_on=device`).
"""

import argparse
import json
import math
import multiprocessing
import random
import time
from collections.abc import Iterator

import numpy as np
from PIL import Image

from benchmarks.flags import count, crop_sizes
from swav_jax.data import sources
from swav_jax.data.batch import CropSpecs
from swav_jax.data.batches import train_batches
from swav_jax.data.canvases import canvas_side
from swav_jax.data.sizes import some_sizes
from swav_jax.data.tf import as_written, tf
from swav_jax.runtime.machine import cores

SCALES = {"large": (0.14, 1.0), "small": (0.05, 0.14)}  # SwAV's, for the first and later sizes


def with_scales(sizes: list[tuple[int, int]]) -> CropSpecs:
    """[(2, 224), (6, 96)] -> ((2, 224, 0.14, 1.0), (6, 96, 0.05, 0.14))."""
    return tuple(
        (count, size, *SCALES["small" if n else "large"]) for n, (count, size) in enumerate(sizes)
    )


def images_per_second(batches: Iterator[int], seconds: float) -> float:
    """Images a second of an iterator of image counts, after two of its items as warm-up."""
    next(batches), next(batches)
    images, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        images += next(batches)
    return images / (time.perf_counter() - start)


def ours(
    source: sources.Source, crops: CropSpecs, batch: int, threads: int, canvas: int | None = None
) -> Iterator[int]:
    """Batches of the training pipeline: crops, or images on canvases."""
    for b in train_batches(source, crops, batch, seed=0, threads=threads, canvas=canvas):
        yield len(b.index)


def decode_only(source: sources.Source, threads: int) -> Iterator[int]:
    """Decoded images, in an endless loop over the data set."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    images = (
        tf.data.Dataset.range(source.size)
        .repeat()
        .map(as_written(lambda i: tf.size(source.read(i))), num_parallel_calls=threads)
    )
    for sizes in images.batch(25).prefetch(2).with_options(options):
        yield len(sizes)


def peer(source: sources.Source, crops: CropSpecs, threads: int) -> Iterator[int]:
    """Crops by Pillow in a pool of processes."""
    jobs = [(source.describe(i), crops) for i in range(source.size)]
    with multiprocessing.get_context("fork").Pool(threads) as pool:
        while True:
            for _ in pool.imap_unordered(pillow_multi_crop, jobs, chunksize=4):
                yield 1


def pillow_multi_crop(job: tuple[str, CropSpecs]) -> list[np.ndarray]:
    """RandomResizedCrop with Pillow and Python's `random`."""
    path, crops = job
    with Image.open(path) as file:
        image = file.convert("RGB")
    return [
        np.stack([np.asarray(_pillow_crop(image, size, low, high)) for _ in range(count)])
        for count, size, low, high in crops
    ]


def _pillow_crop(image: Image.Image, size: int, low: float, high: float) -> Image.Image:
    width, height = image.size
    for _ in range(10):
        area = width * height * random.uniform(low, high)
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            break
    else:
        w = h = min(width, height)
    left, top = random.randint(0, width - w), random.randint(0, height - h)
    box = image.crop((left, top, left + w, top + h))
    return box.resize((size, size), Image.Resampling.BILINEAR)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="a folder of images")
    parser.add_argument("--crops", type=crop_sizes, default="2x224,6x96", help="COUNTxPIXELS,...")
    parser.add_argument("--batch_size", type=count, default=64)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each measurement")
    parser.add_argument("--threads", type=count, default=cores())
    args = parser.parse_args()
    crops = with_scales(args.crops)
    try:
        source = sources.open_source("folder", args.data_dir, "train")
    except sources.DataError as error:
        raise SystemExit(f"error: {error}") from error

    # The peer first: it forks, and TensorFlow has no threads yet.
    peers = images_per_second(peer(source, crops, args.threads), args.seconds)
    print(f"Pillow, {args.threads} processes: {peers:.0f} images/s", flush=True)
    decoded = images_per_second(decode_only(source, args.threads), args.seconds)
    print(f"decoding alone: {decoded:.0f} images/s", flush=True)
    batches = ours(source, crops, args.batch_size, args.threads)
    multi_cropped = images_per_second(batches, args.seconds)
    print(f"decoding and crops: {multi_cropped:.0f} images/s", flush=True)
    side = canvas_side(crops, some_sizes(source))
    batches = ours(source, crops, args.batch_size, args.threads, side)
    laid_out = images_per_second(batches, args.seconds)
    print(f"decoding onto canvases of {side} pixels: {laid_out:.0f} images/s", flush=True)
    result = {
        "images_per_second": multi_cropped,
        "decode_only_images_per_second": decoded,
        "peer_images_per_second": peers,
        "ratio": multi_cropped / peers,
        "ratio_to_decode_only": multi_cropped / decoded,
        "canvases_images_per_second": laid_out,
        "canvases_ratio_to_decode_only": laid_out / decoded,
        "threads": args.threads,
        "crops": args.crops,
        "images": source.size,
    }
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()}))


if __name__ == "__main__":
    main()
