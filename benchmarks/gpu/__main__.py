"""What a GPU makes of swav_jax: speed beside PyTorch, parity, exact resume, CIFAR-10.

    python -m benchmarks.gpu --images cifar.npz [--out gpu.json] [--parts step,parity] [--small]
    python -m benchmarks.gpu --pack DATA_DIR_OF_TFDS cifar.npz

For a machine with one CUDA card and what requirements.txt names but TensorFlow and its data sets;
no network is needed. Each part has a process of its own, and
seconds that it may take: all together take at most 8 minutes. What a part finds is in the file as
soon as it is found; a part that fails or takes too long says so, the next one begins, and the exit
status is 1. The last line of output is the file's JSON. `--small` shows on a CPU that all parts
work, by sizes that mean nothing.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SECONDS = 8 * 60  # of all parts
SLOWER = 2  # times as long as a GPU may a part of --small take, which mostly compiles
# What the parts import; without one of these all would fail one by one.
NEEDED = {
    "jax": "jax",
    "flax": "flax",
    "optax": "optax",
    "orbax.checkpoint": "orbax-checkpoint",
    "ml_collections": "ml-collections",
    "jaxtyping": "jaxtyping",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "tensorboard": "tensorboard",
    "tqdm": "tqdm",
}
COMPLETE = {"complete": True}  # the last line of a part

# Where only numbers count, XLA need not try which kernel is fastest.
ANY_KERNEL = "--xla_gpu_autotune_level=0"
DETERMINISTIC = f"--xla_gpu_deterministic_ops=true {ANY_KERNEL}"
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # parts side by side share the card's memory
SMALL = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compiles quickly

# Seconds and environment of each part: a module whose `measure` yields figures. Parts of one row
# run side by side.
PARTS: tuple[dict[str, tuple[float, dict[str, str]]], ...] = (
    {"machine": (20, SHARED)},
    {"step": (130, {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"})},
    {"pytorch": (60, {})},
    {
        "parity": (70, SHARED | {"XLA_FLAGS": ANY_KERNEL}),
        "resume": (70, SHARED | {"XLA_FLAGS": DETERMINISTIC}),
    },
    {"cifar": (330, {})},
)
NAMES = [name for row in PARTS for name in row]


def main() -> None:
    """Runs all parts, or one of them in this process."""
    flags = parse_flags()
    if flags.part:
        for figures in importlib.import_module(f"benchmarks.gpu.{flags.part}").measure(flags):
            print(json.dumps(figures), flush=True)
        print(json.dumps(COMPLETE), flush=True)
        return
    if flags.pack:
        # Needs TensorFlow, where the images are prepared.
        from benchmarks.gpu.pack import pack
        from swav_jax.data.sources.source import DataError

        data_dir, path = flags.pack
        try:
            return pack(data_dir, Path(path))
        except (DataError, OSError) as error:
            sys.exit(f"error: {error}")
    if missing := [package for name, package in NEEDED.items() if not is_installed(name)]:
        sys.exit(f"error: packages are missing: pip install {' '.join(missing)}")
    parts = flags.parts.split(",")
    if unknown := set(parts) - set(NAMES):
        sys.exit(f"error: --parts has {', '.join(unknown)}; known are {', '.join(NAMES)}")
    if not flags.minutes > 0:
        sys.exit(f"error: --minutes={flags.minutes:g} must be above 0")
    if "cifar" in parts and flags.images and not zipfile.is_zipfile(flags.images):
        sys.exit(f"error: --images={flags.images} is no file that --pack writes")
    try:
        flags.out.parent.mkdir(parents=True, exist_ok=True)
        flags.out.open("a").close()
    except OSError as error:
        sys.exit(f"error: --out={flags.out} cannot be written: {error}")
    result, writing, end = {}, threading.Lock(), time.monotonic() + SECONDS

    def run(name: str, seconds: float, environment: dict[str, str]) -> None:
        figures = result[name] = {}

        def found(line: dict[str, Any]) -> None:
            with writing:
                figures.update(line)
                write(result, flags.out)

        if flags.small:
            seconds, environment = SLOWER * seconds, SMALL
        seconds = min(seconds, end - time.monotonic())
        command = [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:], f"--part={name}"]
        command += [f"--seconds={seconds}"]
        print(f"{name}: at most {seconds:.0f} s", file=sys.stderr, flush=True)
        run_part(command, seconds, environment, found, flags.out.with_suffix(f".{name}.log"))

    for row in PARTS:
        chosen = {name: row[name] for name in row if name in parts}
        threads = [threading.Thread(target=run, args=(n, *row[n])) for n in chosen]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    result["ratio_to_pytorch"] = ratio(result)
    write(result, flags.out)
    print(json.dumps(result))
    if failed := [name for name in NAMES if "error" in result.get(name, {})]:
        sys.exit(f"error: failed: {', '.join(failed)}; {flags.out} says why")


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not imported, but what it lies in is."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def run_part(
    command: Sequence[str],
    seconds: float,
    environment: dict[str, str],
    found: Callable[[dict[str, Any]], None],
    log: Path,
) -> None:
    """Runs a process and hands on the JSON that it prints, line by line.

    Args:
      command: of the process.
      seconds: after which it is killed, with all processes that it started.
      environment: added to this process's.
      found: gets each line's figures, and at last `seconds`, with `error` if it failed or was
        killed before it said that it is complete.
      log: file for what else it says.
    """
    begin, late, complete = time.monotonic(), threading.Event(), False
    flags = " ".join([os.environ.get("XLA_FLAGS", ""), environment.get("XLA_FLAGS", "")]).strip()
    environment = os.environ | environment | {"XLA_FLAGS": flags}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
            process_group=0,
        ) as process,
    ):

        def stop() -> None:
            late.set()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(max(seconds, 0), stop)
        timer.start()
        assert process.stdout
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    figures = json.loads(line)
                    complete |= figures == COMPLETE
                    found(figures)
        finally:
            timer.cancel()
    end: dict[str, Any] = {"seconds": round(time.monotonic() - begin, 1)}
    if complete:
        pass  # whatever its end was like
    elif late.is_set():
        end["error"] = f"stopped after {seconds:.0f} s"
    elif process.returncode:
        said = log.read_text(errors="replace").strip().splitlines()
        end["error"] = said[-1] if said else f"ended with code {process.returncode}"
    else:
        end["error"] = "ended before it was complete"
    found(end)


def write(result: dict[str, Any], path: Path) -> None:
    """Replaces the file at once, so that a kill leaves a whole one."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=2) + "\n")
    partial.replace(path)


def ratio(result: dict[str, Any]) -> float | None:
    """Our images a second over PyTorch's, both without recomputing activations."""
    ours = result.get("step", {}).get("remat_none", {}).get("images_per_second")
    peer = result.get("pytorch", {}).get("images_per_second")
    return ours / peer if ours and peer else None


def parse_flags() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gpu.json"))
    parser.add_argument("--parts", default=",".join(NAMES), help="which, in their usual order")
    parser.add_argument("--images", type=Path, help="CIFAR-10 in one file, as --pack writes it")
    parser.add_argument("--minutes", type=float, default=5, help="of training on CIFAR-10, at most")
    parser.add_argument("--pack", nargs=2, metavar=("DATA_DIR", "FILE"), help="write --images")
    parser.add_argument("--small", action="store_true", help="tiny sizes, for a CPU")
    parser.add_argument("--part", choices=NAMES, help="run this one in this process")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that --part may take")
    return parser.parse_args()


if __name__ == "__main__":
    main()
