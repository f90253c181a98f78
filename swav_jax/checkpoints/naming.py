"""What makes a folder a checkpoint, and what ends that.

On a disk it is the name: a save goes to `<step>.partial`, and a rename is one act. In a bucket,
where folders cannot be renamed, it is the seal: a save goes to `<step>`, and a folder without a
seal is no checkpoint.
"""

from swav_jax.runtime.storage import AnyPath, entries, in_bucket, remove_folder, write_whole
from swav_jax.workdir import NEWEST, SEAL, saved_steps


def unfinished(directory: AnyPath, step: int) -> AnyPath:
    """The folder of a checkpoint that is being saved."""
    return directory / (str(step) if in_bucket(directory) else f"{step}.partial")


def finish(directory: AnyPath, step: int) -> None:
    """Makes a sealed folder the checkpoint of its step."""
    if in_bucket(directory):
        write_whole(directory / NEWEST, str(step))
    else:
        unfinished(directory, step).rename(directory / str(step))


def drop(directory: AnyPath, step: int) -> None:
    """Makes a checkpoint a leftover: a kill within its removal must not leave half of one."""
    folder = directory / str(step)
    if in_bucket(directory):
        (folder / SEAL).unlink()
    else:
        folder.rename(unfinished(directory, step))


def sweep(directory: AnyPath) -> None:
    """Removes the folders of unfinished saves and removals, Orbax's own among them."""
    if in_bucket(directory):
        whole = saved_steps(directory)
        numbered = [entry for entry in entries(directory) if entry.name.isdecimal()]
        leftovers = [folder for folder in numbered if int(folder.name) not in whole]
    else:
        leftovers = list(directory.glob("*.partial*"))
    for folder in leftovers:
        remove_folder(folder)  # threads of a failed save may yet write
