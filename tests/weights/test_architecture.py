from jax._src import xla_bridge
from processes import prepare, start, succeed

from swav_jax.weights.architecture import shapes

NETWORK = {"arch": "resnet18", "stem": "cifar", "width": 0, "head_hidden": 16, "dim": 8}


def asks_for_no_device(workdir):
    prepare(workdir, devices=1)
    found = shapes(NETWORK, with_head=True)
    assert found["conv1.weight"] == (64, 3, 3, 3) and found["projection_head.3.weight"] == (8, 16)
    assert not xla_bridge.backends_are_initialized()


def test_shapes_are_known_before_processes_join_each_other(tmp_path):
    succeed(tmp_path / "run", start(asks_for_no_device, tmp_path / "run"))
