import os
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from swav_jax.runtime import xla

PAGES_OF_A_STEP = """
import resource
from swav_jax.runtime.xla import reuse_freed_memory, start

start()
reuse_freed_memory()
import jax, jax.numpy as jnp
step = jax.jit(lambda x: jnp.sin(x) @ jnp.ones((10_000, 2)))
x, pages = jnp.zeros((3_000, 10_000)), []
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(x).block_until_ready()
    pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(pages[-6:]))
"""


def test_steps_use_freed_memory_again():
    """That of XLA's threads too. The work space of 120 MB has 29,000 pages."""
    run = [sys.executable, "-c", PAGES_OF_A_STEP]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(run, check=True, capture_output=True, text=True, env=environment)
    assert int(done.stdout) < 100


@pytest.mark.parametrize(
    ("chosen", "file", "on_cpu"),
    [
        (None, "other", True),
        (None, "nvidia0", False),
        (None, "kfd", False),
        (None, "accel0", False),
        ("cpu", "nvidia0", True),
        ("cuda,cpu", "other", False),
    ],
)
def test_where_jax_will_compute(chosen, file, on_cpu, monkeypatch, tmp_path):
    (tmp_path / file).touch()
    for kind in ("TPU_FILES", "GPU_FILES"):
        files = [name.replace("/dev", str(tmp_path)) for name in getattr(xla, kind)]
        monkeypatch.setattr(xla, kind, files)
    jax.config.update("jax_platforms", chosen)
    try:
        assert xla.computes_on_cpu() == on_cpu
    finally:
        jax.config.update("jax_platforms", "cpu")


@pytest.mark.parametrize(
    ("chosen", "files", "left_out"),
    [
        (None, [], ["tpu"]),
        (None, ["accel0"], []),
        ("tpu,cpu", [], []),  # by the user, or by JAX where it found chips
    ],
)
def test_tpus_are_left_out_only_where_there_are_none(
    chosen, files, left_out, monkeypatch, tmp_path
):
    for name in files:
        (tmp_path / name).touch()
    replaced = []
    monkeypatch.setattr(xla, "TPU_FILES", (f"{tmp_path}/accel[0-9]*",))
    monkeypatch.setattr(
        xla.backend, "register_backend_factory", lambda name, *_, **__: replaced.append(name)
    )
    jax.config.update("jax_platforms", chosen)
    try:
        xla.leave_out_missing_tpus()
    finally:
        jax.config.update("jax_platforms", "cpu")
    assert replaced == left_out


@pytest.mark.parametrize(
    ("flags", "disabled"),
    [
        ("", "cse_barrier_expander"),
        ("--xla_disable_hlo_passes=dce,cse --xla_dump_to=x", "dce,cse,cse_barrier_expander"),
    ],
)
def test_passes_that_the_user_disables_stay_disabled_in_a_step(flags, disabled, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert xla.step_options("cpu") == {"xla_disable_hlo_passes": disabled}


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_only_a_cpus_step_has_options(platform):
    assert xla.step_options(platform) == {}


def test_what_a_step_computes_again_saves_memory_on_a_cpu_too():
    def temporary_bytes(layer):
        def loss(x):
            for _ in range(8):
                x = layer(x)
            return x.sum()

        x = jax.ShapeDtypeStruct((64, 64), np.float32)
        step = jax.jit(jax.grad(loss), compiler_options=xla.step_options("cpu"))
        return step.lower(x).compile().memory_analysis().temp_size_in_bytes

    def layer(x):
        for _ in range(4):
            x = jax.numpy.sin(x @ x)
        return x

    assert temporary_bytes(jax.checkpoint(layer)) < 0.8 * temporary_bytes(layer)


def test_a_function_is_compiled_ahead_by_another_thread(monkeypatch):
    threads = []

    def compile(lowered):
        threads.append(threading.current_thread())
        return of_jax(lowered)

    of_jax = jax.stages.Lowered.compile
    monkeypatch.setattr(jax.stages.Lowered, "compile", compile)
    ahead = xla.compiled_ahead(jax.jit(lambda x: 2 * x), jax.ShapeDtypeStruct((3,), np.float32))
    np.testing.assert_array_equal(ahead(np.arange(3, dtype=np.float32)), [0, 2, 4])
    assert len(threads) == 1 and threads[0] is not threading.current_thread()


def test_the_call_raises_what_the_compiler_raised(monkeypatch):
    def fail(_):
        raise MemoryError("too large")

    monkeypatch.setattr(jax.stages.Lowered, "compile", fail)
    ahead = xla.compiled_ahead(jax.jit(lambda x: 2 * x), jax.ShapeDtypeStruct((3,), np.float32))
    with pytest.raises(MemoryError, match="too large"):
        ahead(np.arange(3, dtype=np.float32))
