"""Checks that several methods share, made before anything is computed.

Each check raises ValueError, with a remedy, for what cannot work; those about what rarely works
return warnings.
"""

from collections.abc import Sequence

from swav_jax.methods.contract import Sizes
from swav_jax.models.encoder import Encoder

IMAGES_PER_CLUSTER = 10  # on average; of fewer, centroids are noise


def crops_to_compare(sizes: Sizes) -> None:
    """Refuses a single crop of each image."""
    if sizes.views < 2:
        raise ValueError(
            "This method compares crops of an image: data.crops must cut at least two of each."
        )


def assignment_crops(crops: Sequence[int], sizes: Sizes) -> None:
    """Refuses assignment crops that are not among an image's crops."""
    if not crops or not all(0 <= crop < sizes.views for crop in crops):
        raise ValueError(
            f"method.assignment_crops {tuple(crops)} must name crops from 0 to {sizes.views - 1}: "
            f"data.crops cuts {sizes.views} of each image."
        )


def one_head(heads: int, reason: str) -> None:
    """Refuses several sets of prototypes; the reason says why the method has one."""
    if heads != 1:
        raise ValueError(f"{reason}: set model.prototype_heads to 1, not {heads}.")


def queue_length(length: int, sizes: Sizes) -> None:
    """Refuses a queue that whole batches do not fill."""
    if length % sizes.batch_size:
        batches = max(round(length / sizes.batch_size), 1)
        raise ValueError(
            f"method.queue_length {length} is not a multiple of data.batch_size "
            f"{sizes.batch_size}: whole batches enter and leave the queue. Try "
            f"{batches * sizes.batch_size}."
        )


def first_phase(
    setting: str, steps: int, sizes: Sizes, consequence: str, *, after: int = 0
) -> list[str]:
    """Refuses a first phase that outlasts the training; warns where nothing comes after it.

    Args:
      setting: the phase's name and value.
      steps: its length.
      sizes: of the run.
      consequence: what follows if the training is not longer.
      after: steps that have to come after it.
    """
    longest = max(sizes.total_steps, sizes.epochs_steps)
    if steps + after > longest:
        raise ValueError(
            f"{setting} lasts {steps} steps, the training {longest}: {consequence}. A tenth of the "
            "training is usual."
        )
    if steps >= sizes.total_steps:
        return [
            f"{setting} lasts {steps} steps, and the training ends after {sizes.total_steps}: "
            f"{consequence}. 0 leaves that phase out."
        ]
    return []


def clusters(prototypes: int, images: int, *, multiple: int = 1) -> list[str]:
    """Refuses more clusters than the images they are made of, and warns of small ones.

    Args:
      prototypes: as `model.prototypes` gives them.
      images: that are clustered.
      multiple: clusters for each prototype, as the largest of `method.granularity` gives them.
    """
    number = prototypes * multiple
    setting = f"model.prototypes {prototypes}"
    if multiple > 1:
        setting += f" x method.granularity {multiple}"
    remedy = f"Something like {max(images // (20 * multiple), 2)} is a start."
    if number > images:
        raise ValueError(
            f"{setting} exceeds the {images} images that are clustered: set model.prototypes to at "
            f"most {images // multiple}. {remedy}"
        )
    if images < IMAGES_PER_CLUSTER * number:
        return [
            f"{setting} makes clusters of {images / number:.1f} images; with fewer than "
            f"{IMAGES_PER_CLUSTER} they are mostly noise. {remedy}"
        ]
    return []


def shared_statistics(encoder: Encoder, sizes: Sizes) -> list[str]:
    """Warns of batch norm over parts of the batch, for methods that find a crop among others."""
    if encoder.head.bn_groups * sizes.parts == 1:
        return []
    return [
        "With model.bn_groups or train.accumulate above 1 the crops of an image share the "
        "batch-norm statistics of few images, by which they can be matched without looking at the "
        "image."
    ]
