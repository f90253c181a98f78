"""Eight CPU devices, and JAX as strict as it can be: what passes here promotes nothing silently."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import pytest
import tiny

from swav_jax import run as runs
from swav_jax.runtime.xla import start
from swav_jax.tasks import knn

start()  # the compilation cache makes a second run of the tests several times faster
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Nearly all time goes into compiling programs that run for milliseconds: this halves it.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module")
def as_users_compile():
    """All of XLA's optimisations for a module."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def linear_network(monkeypatch):
    """Runs have a network that compiles in a second, whatever their configuration says."""
    for module in (runs, knn):
        monkeypatch.setattr(module, "make_encoder", lambda c: tiny.encoder(dtype=c.model.dtype))


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield
