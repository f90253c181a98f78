"""Eight CPU devices, and JAX as strict as it can be: what passes here promotes nothing silently."""

import os
import shutil
from contextlib import suppress

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with suppress(ModuleNotFoundError):
    import triton  # noqa: F401, torchvision needs it, and behind TensorFlow importing it crashes

import jax
import pytest
from images import smooth
from jax import lax
from tiny import compile_fast, tiny_swav

from swav_jax import train
from swav_jax.runtime.xla import start

start()
compile_fast()
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def as_users_compile():
    """All of XLA's optimisations for a module; float64 still convolves by YNNPACK (tiny.py)."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["cpu", "cuda", "tpu"])
def on_each_platform(request, monkeypatch):
    """Each platform, whose branch of `lax.platform_dependent` is computed here on a CPU.

    For what is not compiled by `jax.jit`, which remembers another platform's program.
    """

    def branch(*args, default, **branches):
        return branches.get(request.param, default)(*args)

    monkeypatch.setattr(lax, "platform_dependent", branch)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Fourteen images of two classes, of which one cannot be read."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    for number in range(14):
        name = folder / ("cat" if number < 6 else "dog") / f"{number:02}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        smooth(number, 20, 30).save(name)
    (folder / "cat" / "03.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="session")
def _workdir(tmp_path_factory):
    config = tiny_swav()
    config.method.freeze_prototypes_steps, config.train.steps = 1, 2
    workdir = tmp_path_factory.mktemp("runs") / "swav"
    train.pretrain(config, workdir)
    return workdir


@pytest.fixture
def workdir(_workdir, tmp_path):
    """A run on the digits, for the test alone."""
    return shutil.copytree(_workdir, tmp_path / "run")
