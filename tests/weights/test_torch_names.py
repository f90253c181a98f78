import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax.models.backbones import backbone
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.weights.torch_names import from_torch, our_path, to_torch, torch_name

NAMES = [
    ("conv1.weight", 4, "params/backbone/conv1/kernel"),
    ("bn1.weight", 1, "params/backbone/bn1/scale"),
    ("layer1.0.bn2.bias", 1, "params/backbone/layer1_0/bn2/bias"),
    ("layer4.22.conv1.weight", 4, "params/backbone/layer4_22/conv1/kernel"),
    ("layer2.0.downsample.0.weight", 4, "params/backbone/layer2_0/downsample_0/kernel"),
    (
        "layer2.0.downsample.1.running_var",
        1,
        "batch_stats/backbone/layer2_0/downsample_1/var",
    ),
    ("projection_head.0.weight", 2, "params/head/projection_head_0/kernel"),
    ("projection_head.1.weight", 1, "params/head/projection_head_1/scale"),
    ("projection_head.1.running_mean", 1, "batch_stats/head/projection_head_1/mean"),
    ("projection_head.3.bias", 1, "params/head/projection_head_3/bias"),
    ("projection_head.weight", 2, "params/head/projection_head/kernel"),
    ("prototypes.prototypes0.weight", 2, "params/prototypes/prototypes0"),
]


@pytest.mark.parametrize(("theirs", "ndim", "ours"), NAMES)
def test_names_both_ways(theirs, ndim, ours):
    path = tuple(ours.split("/"))
    assert our_path(theirs, ndim) == path
    assert torch_name(path) == theirs


def test_a_single_head_of_prototypes_is_the_first():
    assert our_path("prototypes.weight", 2) == ("params", "prototypes", "prototypes0")


def test_layouts_both_ways():
    rng = np.random.default_rng(0)
    conv, linear = rng.normal(size=(5, 4, 3, 2)), rng.normal(size=(5, 4))
    state_dict = {
        "layer1.0.conv1.weight": conv,
        "projection_head.0.weight": linear,
        "prototypes.weight": linear,
        "bn1.num_batches_tracked": np.array(7),
    }
    params = from_torch(state_dict)["params"]
    assert params["backbone"]["layer1_0"]["conv1"]["kernel"][2, 1, 3, 4] == conv[4, 3, 2, 1]
    assert params["head"]["projection_head_0"]["kernel"][3, 4] == linear[4, 3]
    assert params["prototypes"]["prototypes0"][4, 3] == linear[4, 3]
    back = to_torch({"params": params})
    del state_dict["bn1.num_batches_tracked"]
    assert set(back) == set(state_dict)
    for name, value in back.items():
        np.testing.assert_array_equal(value, state_dict[name])


def test_every_variable_of_an_encoder_survives_the_way_there_and_back():
    encoder = Encoder(backbone("resnet18_thin"), ProjectionHead(hidden=8, dim=4))
    variables = jax.jit(
        lambda: encoder.init(jax.random.key(0), [jnp.zeros((1, 1, 32, 32, 3))], train=False)
    )()
    back = from_torch(to_torch(variables))
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
