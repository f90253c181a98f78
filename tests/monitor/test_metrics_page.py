import re
from importlib import import_module
from pathlib import Path

import jax
import pytest
from tiny import ARCH

from swav_jax.data.batch import batch_shapes
from swav_jax.ops.metrics import FIRST_BAD
from swav_jax.run import build
from swav_jax.step import compiled_step, state_shapes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "monitoring.md").read_text()
ROWS = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
DESCRIBED = {name for row in ROWS for name in re.findall(r"`(\w+)`", row)}
QUICKSTARTS = sorted(path.stem for path in (ROOT / "configs").glob("quickstart*.py"))


@pytest.mark.parametrize("name", QUICKSTARTS)
def test_every_metric_of_a_step_is_described(name):
    config = import_module(f"configs.{name}").get_config()
    config.model.arch = ARCH
    run = build(config, devices=jax.devices()[:1])
    with jax.set_mesh(run.mesh):
        shapes = state_shapes(run)
        batch = batch_shapes(config.data.crops, config.data.batch_size)
        _, metrics = jax.eval_shape(compiled_step(run, shapes), shapes, batch)
    assert metrics.keys() - {FIRST_BAD} <= DESCRIBED
