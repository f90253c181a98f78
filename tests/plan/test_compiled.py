import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from tiny import tiny_config, tiny_swav

from configs import quickstart
from swav_jax import sharding
from swav_jax.config import ConfigError
from swav_jax.ops import bank
from swav_jax.plan import compiled as plan
from swav_jax.runtime import xla

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
HBM = 16 * 2**30  # bytes of a v5e chip
ON_CHIP = "S(1)"  # in the layout of an array that a TPU program keeps there


def listed():
    """The (purpose, kind) of the messages that the page lists."""
    rows = re.findall(r"^\| ([a-z ]+) \| ([a-z-]+) \|", PAGE.read_text(), re.MULTILINE)
    return set(rows)


@pytest.mark.plan
@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs the TPU's compiler")
@pytest.mark.parametrize("slice_", ["v5e:2x2", "v5e:4x4"])
def test_the_quickstart_compiles_for_tpus_fits_and_sends_only_what_is_listed(slice_):
    config = quickstart.get_config()
    config.method.queue_length = 64
    devices = plan.topology(slice_)
    compiled = plan.compile_step(config, devices, images=1500)
    assert sum(plan.memory(compiled).values()) < HBM
    assert ON_CHIP not in compiled.as_text()  # so that the bytes counted are those of HBM
    found = plan.collectives(compiled)
    assert ("gradients", "all-reduce") in found
    assert set(found) <= listed()


@pytest.mark.plan
@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs the TPU's compiler")
def test_a_bank_in_host_memory_takes_none_of_the_devices():
    config, devices, images = tiny_config("deepcluster_v2"), plan.topology("v5e:2x2"), 100_000
    config.model.dim = 128
    near = plan.compile_step(config, devices, images)
    config.mesh.bank_memory = "host"
    far = plan.compile_step(config, devices, images)
    block = 2 * bank.padded(images) * 128 * 4 // len(devices)  # bytes of each device
    saved = plan.memory(near)["argument_bytes"] - plan.memory(far)["argument_bytes"]
    assert saved == block
    found = far.memory_analysis()
    assert found.host_argument_size_in_bytes == found.host_alias_size_in_bytes == block
    assert found.host_temp_size_in_bytes == 0
    assert found.temp_size_in_bytes < near.memory_analysis().temp_size_in_bytes + block // 10


@pytest.mark.plan
@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs the TPU's compiler")
def test_a_tpu_takes_images_that_stay_there_without_a_copy_of_all():
    config, devices, images = tiny_swav(), plan.topology("v5e:2x2"), 50_000
    compiled = plan.compile_step(config, devices, images, (32, 32))
    assert plan.memory(compiled)["temp_bytes"] < 3 * 32**2 * images // len(devices) // 4
    found = plan.collectives(compiled)
    assert found["images", "all-to-all"] == 3 * 32**2 * config.data.batch_size
    assert set(found) <= listed()


PLANNED_AFTER_DEVICES_ARE_KNOWN = """
import jax
from swav_jax.runtime.xla import start
start()
jax.devices()
print("libtpu" in open("/proc/self/maps").read())
from swav_jax.plan.compiled import topology
print(len(topology("v5e:4x4")), "libtpu" in open("/proc/self/maps").read())
"""


@pytest.mark.plan
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs the TPU's compiler")
@pytest.mark.skipif(xla.has_tpu(), reason="this machine has what should be missing")
def test_the_tpu_compiler_is_loaded_only_for_plans_and_says_nothing():
    run = [sys.executable, "-c", PLANNED_AFTER_DEVICES_ARE_KNOWN]
    nowhere = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_PLATFORMS", "TPU_"))}
    said = subprocess.run(run, check=True, capture_output=True, text=True, env=nowhere)
    assert said.stdout == "False\n16 True\n"
    assert said.stderr == ""


@pytest.mark.plan
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs the TPU's compiler")
def test_a_slice_that_the_compiler_does_not_know_is_refused():
    with pytest.raises(RuntimeError, match=r"no TPU slice 'v5e:3x5', says its compiler: .*layout"):
        plan.topology("v5e:3x5")


@pytest.mark.skipif(xla.has_tpu(), reason="this machine has what should be missing")
def test_a_missing_compiler_is_said_with_the_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"compiler is missing.*\[plan\]"):
        plan.topology("v5e:2x2")


@pytest.mark.parametrize("name", ["v5e", "v5e:", "v5e:axb", "v5e:8", "v5e:0x0", "v5e:2x0"])
def test_what_is_no_layout_of_chips_never_reaches_the_compiler(monkeypatch, name):
    monkeypatch.setattr(plan.topologies, "get_topology_desc", None)
    with pytest.raises(RuntimeError, match="like v5e:8x8"):
        plan.topology(name)


def test_bytes_and_purposes_of_messages():
    mesh = sharding.make_mesh(1, jax.devices()[:8])
    rows = jax.NamedSharding(mesh, sharding.SAMPLES)

    def sums(x):
        with jax.named_scope("sinkhorn"):
            return x.sum(0)

    x = jax.ShapeDtypeStruct((16, 10), jnp.float32, sharding=rows)
    whole = jax.NamedSharding(mesh, sharding.WHOLE)
    compiled = jax.jit(sums, out_shardings=whole).lower(x).compile()
    assert plan.collectives(compiled) == {("codes", "all-reduce"): 40}


def test_four_shards_hold_a_quarter_of_many_prototypes():
    config = tiny_swav()
    config.model.prototypes = 100_000
    alone = plan.memory(plan.compile_step(config, jax.devices()[:1], images=1500))
    config.mesh.model = 4
    shared = plan.memory(plan.compile_step(config, jax.devices()[:4], images=1500))
    held = 2 * 4 * config.model.prototypes * config.model.dim  # bytes, with their momentum
    assert alone["argument_bytes"] - shared["argument_bytes"] == 3 * held // 4
    assert shared["temp_bytes"] < 0.3 * alone["temp_bytes"]  # the scores' and codes'


def test_a_plan_cuts_images_of_one_size_where_they_stay():
    config, devices, images = tiny_swav(), jax.devices()[:4], 1500
    host = plan.compile_step(config, devices, images)
    cached = plan.compile_step(config, devices, images, (32, 32))
    rows, views = config.data.batch_size // 4, 4
    crops, boxes = rows * 3 * (2 * 16**2 + 2 * 8**2), rows * views * 4 * 4
    more = images // 4 * 3 * 32**2 + boxes + 4 * rows - crops  # the last are the images' numbers
    assert plan.memory(cached)["argument_bytes"] - plan.memory(host)["argument_bytes"] == more
    sent = plan.collectives(cached)
    assert sent["images", "all-gather"] == 4 * config.data.batch_size  # their numbers
    assert sent["images", "all-to-all"] == 3 * 32**2 * config.data.batch_size
    assert not any(purpose == "images" for purpose, _ in plan.collectives(host))

    config.data.cache = "device"
    with pytest.raises(ConfigError, match="GiB of each device"):
        plan.compile_step(config, devices, 10**9, (32, 32))
    config.data.cache, config.data.crop_on = "host", "device"
    canvases = plan.compile_step(config, devices, images, (32, 32))
    more = rows * 3 * 32**2 + boxes - crops  # a canvas for each image
    assert plan.memory(canvases)["argument_bytes"] - plan.memory(host)["argument_bytes"] == more
