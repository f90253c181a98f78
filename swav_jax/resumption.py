"""What a run saves of itself, and how it goes on from there with the images that it began with."""

from functools import partial
from itertools import zip_longest
from typing import Any

from absl import logging

from swav_jax import config as config_lib
from swav_jax.checkpoints.store import Checkpoints
from swav_jax.methods.contract import TrainState
from swav_jax.run import Run
from swav_jax.runtime.processes import warn
from swav_jax.workdir import OtherRun


def save(run: Run, state: TrainState, checkpoints: Checkpoints) -> None:
    """Starts to save the state, with what a resumed run is compared with."""
    metadata = {"config": config_lib.to_dict(run.config), "crops_by": run.crops_by}
    checkpoints.save(int(state.step), state, metadata | images_of(run))


def resume(run: Run, shapes: TrainState, checkpoints: Checkpoints) -> TrainState | None:
    """The newest checkpoint's state, or None if nothing was ever saved.

    Raises:
      OtherRun: the checkpoint was trained on other images.
    """
    restored = checkpoints.restore(shapes, approve=partial(check_images, run))
    if not restored:
        return None
    state, metadata = restored
    logging.info("resuming at step %d of %d", int(state.step), run.sizes.total_steps)
    if int(state.step) < run.sizes.total_steps:
        then = metadata.get("crops_by", "TensorFlow")  # as did versions that do not say it
        if then != run.crops_by:
            warn(
                f"crops were cut by {then} before, and are by {run.crops_by} now: grey levels "
                "differ by up to two, so that the run will not equal one in one go to the bit"
            )
    return state


def images_of(run: Run) -> dict[str, Any]:
    """What a checkpoint says of the training images; of their classes, if these are learned."""
    said = {"images": run.sizes.size, "images_digest": run.source.digest}
    if run.config.method.name == "supervised":
        said["classes"] = list(run.source.class_names)
    return said


def check_images(run: Run, metadata: dict[str, Any]) -> None:
    """Refuses (OtherRun) a checkpoint of other images, whose numbers mean others here.

    Args:
      run: that would go on.
      metadata: of the checkpoint; earlier versions said no more than the number of images.
    """
    there, here = metadata, images_of(run)
    if there["images"] != here["images"]:
        changed = f"{there['images']} training images there, {here['images']} here"
    elif there.get("images_digest", here["images_digest"]) != here["images_digest"]:
        changed = "as many training images, but of other names or in another order"
    elif there.get("classes", here.get("classes")) != here.get("classes"):
        pairs = enumerate(zip_longest(there["classes"], here["classes"]))
        number, (was, now) = next((i, names) for i, names in pairs if len(set(names)) > 1)
        changed = f"class {number} is {was or 'none'} there, {now or 'none'} here"
    else:
        return
    raise OtherRun(
        f"the run did not begin with these training images ({changed}): its order of images, and "
        "what it remembers of each, would be of others. Restore the images, or start another "
        "--workdir with --config.init_from of this one.",
        changed,
    )
