import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax.models.alexnet_vgg import POOL, SobelNet
from swav_jax.models.backbones import backbone
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.models.sobel import sobel
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


def deepcluster_in_torch(side=5):
    """A small network of AlexNet's form as PyTorch names it, and its forward pass by hand."""
    rng = np.random.default_rng(0)
    shapes = {
        **{"features.0.weight": (4, 2, 3, 3), "features.0.bias": (4,)},
        **{f"features.1.{name}": (4,) for name in ("weight", "bias", "running_mean")},
        **{"features.4.weight": (3, 4, 3, 3), "features.4.bias": (3,)},
        **{f"features.5.{name}": (3,) for name in ("weight", "bias", "running_mean")},
        **{"classifier.1.weight": (6, 3 * side * side), "classifier.1.bias": (6,)},
        **{"classifier.4.weight": (6, 6), "classifier.4.bias": (6,)},
    }
    state = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    state["features.1.running_var"] = rng.random(4, np.float32) + 1
    state["features.5.running_var"] = rng.random(3, np.float32) + 1

    def convolved(maps, n):  # [B, C, H, W]
        kernel = state[f"features.{n}.weight"]
        padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
        patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        maps = np.einsum("bchwij,ocij->bohw", patches, kernel)
        each = (slice(None), None, None)
        maps += state[f"features.{n}.bias"][each]
        weight, bias, mean, var = (
            state[f"features.{n + 1}.{name}"][each]
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        return np.maximum((maps - mean) / np.sqrt(var + 1e-5) * weight + bias, 0)

    def forward(images):
        edges = np.asarray(sobel(jnp.asarray(images))).transpose(0, 3, 1, 2)
        maps = convolved(edges, 0)
        maps = maps.reshape(*maps.shape[:2], side, 2, side, 2).max((3, 5))
        x = convolved(maps, 4).reshape(len(images), -1)
        x = np.maximum(x @ state["classifier.1.weight"].T + state["classifier.1.bias"], 0)
        return x @ state["classifier.4.weight"].T + state["classifier.4.bias"]

    return state, forward


def test_networks_of_deepcluster_compute_the_same():
    """Their convolutions have a bias there, and their maps are flattened in another order."""
    state, forward = deepcluster_in_torch()
    images = np.random.default_rng(1).random((2, 10, 10, 3), np.float32)
    model = SobelNet(layers=((4, 3, 1, 1), POOL, (3, 3, 1, 1)), pool=2, units=6)
    torch_variables = from_torch(state)
    variables = {name: tree["backbone"] for name, tree in torch_variables.items()}
    made = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    assert jax.tree.map(np.shape, variables) == jax.tree.map(lambda leaf: leaf.shape, made)
    found = model.apply(variables, images, train=False)
    np.testing.assert_allclose(found, forward(images), rtol=1e-4, atol=1e-4)

    back = to_torch(torch_variables)
    assert back.keys() == state.keys()
    assert not back["features.0.bias"].any()
    np.testing.assert_array_equal(back["classifier.1.weight"], state["classifier.1.weight"])
    state |= back  # `forward` sees it
    np.testing.assert_allclose(forward(images), found, rtol=1e-4, atol=1e-4)


def test_a_bias_that_no_batch_norm_takes_is_refused():
    state = {"conv1.weight": np.ones((3, 2, 1, 1)), "conv1.bias": np.ones(3)}
    with pytest.raises(ValueError, match=r"conv1\.bias is the bias of a convolution without"):
        from_torch(state)
