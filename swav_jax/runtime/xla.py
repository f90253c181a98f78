"""What must be set before JAX computes: platforms, compiler flags, caches, memory."""

import ctypes
import glob
import logging
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import jax
import jaxlib
from jax.extend import backend

from swav_jax.runtime.machine import cache_folder

# XLA:CPU hands convolutions to YNNPACK, whose weight gradients took seven times as long as Eigen's
# with jaxlib 0.10 and AVX2. In 0.12.0.1, with AVX-512, the flag gains 4 % for a thin ResNet-18 and
# costs 8 % for ResNet-50 (CPU seconds of a step), so that XLA chooses there.
CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
KNOWS_CPU_FLAG = ("0.10.",)  # an XLA that does not know a flag ends the process

# For programs that run rarely: XLA's full effort on them takes longer than running them. Drawing
# ResNet-18's parameters compiles in 3.8 s instead of 13.5 on two cores, to the same bits.
RUNS_ONCE = {"xla_backend_optimization_level": 1}

# XLA:CPU's pass that removes the barriers of `ops.materialise` before it fuses, by its name in
# jaxlib 0.10 and 0.12. An XLA that has no such pass ignores the name.
REMOVES_BARRIERS = "cse_barrier_expander"

# From glibc's malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD (-1: never), M_ARENA_MAX.
REUSE_FREED_MEMORY = {-4: 0, -1: -1, -8: 1}

# The devices by which the kernel shows a TPU: v2 to v4, and later ones; and GPUs of NVIDIA and AMD.
TPU_FILES = ("/dev/accel[0-9]*", "/dev/vfio/[0-9]*")
GPU_FILES = ("/dev/nvidia[0-9]*", "/dev/kfd")


def start() -> None:
    """Prepares this process; call it before the first use of a device."""
    leave_out_missing_tpus()
    use_fast_cpu_convolutions()
    folder = cache_folder()
    if folder and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(folder / "xla"))
    logging.getLogger("jax").setLevel(logging.WARNING)


def leave_out_missing_tpus() -> None:
    """Lets JAX choose among the other platforms where there is no TPU.

    libtpu may be installed as a compiler (`swav_jax.plan`). JAX would start it, which takes a
    second and prints errors. Does nothing where the user, or JAX itself when it was imported, has
    chosen the platforms.
    """

    def fail() -> NoReturn:
        raise RuntimeError("this machine has no TPU")

    if jax.config.values["jax_platforms"] is None and not has_tpu():
        backend.register_backend_factory("tpu", fail, fail_quietly=True)


def has_tpu() -> bool:
    """Whether a TPU is attached to this machine."""
    return any(glob.glob(files) for files in TPU_FILES)


def computes_on_cpu() -> bool:
    """Whether JAX will compute on the CPU, as far as can be told before it looks for devices."""
    if chosen := jax.config.values["jax_platforms"]:
        return chosen.split(",")[0] == "cpu"
    return not has_tpu() and not any(glob.glob(files) for files in GPU_FILES)


def reuse_freed_memory() -> None:
    """Lets this process keep the memory that it frees, instead of returning it to the system.

    XLA:CPU allocates its work space anew in each step, and a fifth of a step is spent on pages that
    the system clears each time. Does nothing where JAX computes elsewhere, or without glibc.

    Call it before JAX looks for devices: each thread allocates for ever in the heap that it took
    first, and a heap that is not the process's own gives back everything above 64 MB.
    """
    if not computes_on_cpu():
        return
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no such library
        return
    if hasattr(libc, "mallopt"):
        for option, value in REUSE_FREED_MEMORY.items():
            libc.mallopt(option, value)


def room_for_data(device: jax.Device) -> int:
    """Bytes of a device's memory that a data set may take.

    An eighth where the device says how much it has; else, as on a CPU, whose devices share their
    memory, 1 GiB for all devices of a process.
    """
    try:
        memory = device.memory_stats() or {}
    except (NotImplementedError, RuntimeError):  # it is not attached to this machine
        memory = {}
    if limit := memory.get("bytes_limit"):
        return limit // 8
    return 2**30 // (jax.local_device_count() if device.platform == "cpu" else 1)


def use_fast_cpu_convolutions() -> None:
    """Chooses the faster of XLA:CPU's two ways to convolve, where that can be chosen."""
    flags = os.environ.get("XLA_FLAGS", "")
    if jaxlib.__version__.startswith(KNOWS_CPU_FLAG) and "ynn_fusion_type" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {CPU_FLAG}".strip()


def step_options(platform: str) -> dict[str, str]:
    """Options to compile a training step with: on a CPU it keeps the barriers of `ops.materialise`.

    The option of a program replaces that of XLA_FLAGS, so passes disabled there stay disabled here.

    Args:
      platform: of the devices that the step is for.
    """
    if platform != "cpu":
        return {}
    disabled = re.findall(r"--xla_disable_hlo_passes=(\S+)", os.environ.get("XLA_FLAGS", ""))
    return {"xla_disable_hlo_passes": ",".join([*disabled, REMOVES_BARRIERS])}


def compiled_ahead(function: Any, *arguments: Any) -> Callable[..., Any]:
    """A function that another thread compiles from now on; its first call waits for that.

    That call raises what the compiler raised. A program that ends before its first call waits too:
    a compiler cannot be stopped.

    On a GPU it is compiled when it is called: XLA chooses among kernels by timing them, and nothing
    else may run there meanwhile.

    Args:
      function: under `jax.jit`.
      arguments: those that it will be called with, or their shapes, dtypes and shardings.
    """
    if jax.default_backend() == "gpu":
        return function
    lowered = function.lower(*arguments)
    compiled = ThreadPoolExecutor(1).submit(lowered.compile)
    return lambda *given: compiled.result()(*given)
