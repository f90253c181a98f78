from copy import deepcopy

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from weights import published

from swav_jax.models.alexnet_vgg import SobelNet
from swav_jax.models.backbones import backbone
from swav_jax.models.heads import ProjectionHead
from swav_jax.weights.foreign import network_in, read_weights
from swav_jax.weights.torch_io import WeightsError

ENCODER, VARIABLES, SETS = published.network()
SWAV = published.swav(VARIABLES, SETS)
TRUNK = published.swav({c: {"backbone": t["backbone"]} for c, t in VARIABLES.items()})
MODEL = {"arch": "resnet10_tiny", "stem": "cifar", "width": 0}
HEAD = {"head_hidden": 16, "head_layers": 2, "head_norm": True, "dim": 8}
PROTOTYPES = {"prototypes": 5, "prototype_heads": 3}


def without(tensors, *names):
    assert set(names) <= tensors.keys()
    return {name: value for name, value in tensors.items() if name not in names}


def variables_of(weights):
    return unflatten_dict(weights.leaves, sep="/")


def weight_norm(tensors):
    """One set of prototypes as lengths and directions."""
    g, v = "prototypes.weight_g", "prototypes.weight_v"
    rows = tensors["module.prototypes.prototypes0.weight"]
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    others = {name: value for name, value in tensors.items() if "prototypes" not in name}
    return others | {f"module.{g}": lengths, f"module.{v}": 3 * rows}


def lightly(tensors):
    """Its head has no bias before a batch norm, and its prototypes have one."""
    head = (r"^module\.projection_head\.", "projection_head.layers.")
    sets = (r"^module\.prototypes\.prototypes(\d)", r"prototypes.heads.\1")
    found = published.renamed(tensors, head, sets, *published.in_sequence("backbone"))
    found["prototypes.heads.0.bias"] = np.ones(5, "f")
    return without(found, "projection_head.layers.0.bias")


FILES = {
    "SwAV, DeepCluster-v2, SeLa-v2": {"state_dict." + name: x for name, x in SWAV.items()},
    "torchvision, timm": published.renamed(TRUNK, ("^module.", "")) | {"fc.weight": np.ones(3)},
    "SimCLR, torch.hub": published.renamed(
        without(SWAV, *(name for name in SWAV if "prototypes" in name)),
        (r"^module\.projection_head\.", "backbone.fc."),
        (r"^module\.", "backbone."),
    ),
    "lightly": lightly(SWAV),
    "solo-learn": published.solo_learn(weight_norm(SWAV)),
    "VISSL": published.vissl(SWAV),
    "transformers": published.transformers(TRUNK) | {"classifier.1.weight": np.ones((3, 64))},
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_names_of_each_library_give_the_same_network(name):
    weights = network_in(FILES[name], "FILE")
    assert weights.format.name == name
    found = variables_of(weights)
    assert weights.model.items() >= MODEL.items()
    expected = {c: {part: VARIABLES[c][part] for part in tree} for c, tree in found.items()
                if c == "batch_stats"}  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, found["batch_stats"], expected["batch_stats"])
    backbone_there, backbone_here = found["params"]["backbone"], VARIABLES["params"]["backbone"]
    jax.tree.map(np.testing.assert_array_equal, backbone_there, backbone_here)
    if "head" in weights.parts:
        assert weights.model.items() >= HEAD.items()
        there, here = found["params"]["head"], jax.tree.map(np.copy, VARIABLES["params"]["head"])
        if name == "lightly":
            here["projection_head_0"]["bias"][:] = 0
        jax.tree.map(np.testing.assert_array_equal, there, here)
    if "prototypes" in weights.parts:
        sets = found["params"]["prototypes"]
        assert weights.model["prototypes"] == 5 and weights.model["prototype_heads"] == len(sets)
        for key, rows in sets.items():
            np.testing.assert_allclose(rows, SETS[key], rtol=1e-6)
    assert len(weights.parts) == {"torchvision, timm": 1, "transformers": 1,
                                  "SimCLR, torch.hub": 2}.get(name, 3)  # fmt: skip


@pytest.mark.parametrize("norm", [True, False], ids=["batch norm", "MoCo-v2's head"])
def test_a_momentum_encoder_becomes_the_key_encoder(norm):
    _, variables, _ = published.network(norm=norm)
    _, slow, _ = published.network(seed=1, norm=norm)
    file = published.momentum_contrast(published.swav(variables), "encoder_q")
    file |= published.momentum_contrast(published.swav(slow), "encoder_k")
    file |= {"module.queue": np.ones((8, 4), "f"), "module.queue_ptr": np.array([0])}
    weights = network_in(file, "FILE")
    assert weights.format.name == "MoCo, PCL"
    assert weights.parts == ("backbone", "head", "key_encoder")
    assert weights.model == MODEL | HEAD | {"head_norm": norm}
    found = variables_of(weights)
    jax.tree.map(np.testing.assert_array_equal, found["params"], variables["params"])
    jax.tree.map(np.testing.assert_array_equal, found["extra"]["key_encoder"], slow["params"])
    key = found["batch_stats"].pop("key_encoder")
    jax.tree.map(np.testing.assert_array_equal, key, slow["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, found["batch_stats"], variables["batch_stats"])
    assert "embeddings of earlier batches: module.queue" in weights.report


def test_a_head_of_one_layer_as_of_moco_v1_and_pcl_v1():
    one = {"module.encoder_q.fc.weight": np.ones((8, 64), "f"),
           "module.encoder_q.fc.bias": np.ones(8, "f")}  # fmt: skip
    weights = network_in(published.momentum_contrast(TRUNK, "encoder_q") | one, "FILE")
    assert weights.model == MODEL | {"head_hidden": 0, "dim": 8}
    assert variables_of(weights)["params"]["head"]["projection_head"]["kernel"].shape == (64, 8)


@pytest.mark.parametrize(("layers", "stem"), [(2, "imagenet"), (3, "strided")])
def test_other_heads_and_stems(layers, stem):
    _, variables, _ = published.network(layers=layers, stem=stem)
    weights = network_in(published.swav(variables), "FILE", stem=stem)
    assert weights.model == MODEL | HEAD | {"head_layers": layers, "stem": stem}
    jax.tree.map(np.testing.assert_array_equal, variables_of(weights), variables)


def test_any_width():
    _, variables, _ = published.network(width=12)
    weights = network_in(published.swav(variables), "FILE")
    assert weights.model == MODEL | HEAD | {"width": 12}


def test_sets_of_several_sizes_are_read():
    file = SWAV | {"module.prototypes.prototypes1.weight": np.ones((9, 8), "f")}
    sets = variables_of(network_in(file, "FILE"))["params"]["prototypes"]
    assert [len(sets[f"prototypes{h}"]) for h in range(3)] == [5, 9, 5]


def test_ten_sets_are_in_the_order_of_their_numbers():
    sets = {f"module.prototypes.prototypes{h}.weight": np.full((2, 8), h, "f") for h in range(11)}
    file = published.swav(VARIABLES) | dict(sorted(sets.items()))
    found = variables_of(network_in(file, "FILE"))["params"]["prototypes"]
    assert [found[f"prototypes{h}"][0, 0] for h in range(11)] == list(range(11))


def test_without_a_prototype_there_are_none():
    file = published.swav(VARIABLES) | {"module.prototypes.weight": np.ones((0, 8), "f")}
    weights = network_in(file, "FILE")
    assert weights.parts == ("backbone", "head")
    assert "a set without prototypes: module.prototypes.weight" in weights.report


def test_a_head_that_is_not_here_is_left_out_and_named():
    """As SimCLR's in lightly, which ends in a batch norm."""
    last = {f"module.projection_head.4.{kind}": np.ones(8, "f")
            for kind in ("weight", "bias", "running_mean", "running_var")}  # fmt: skip
    weights = network_in(published.swav(VARIABLES) | last, "FILE")
    assert weights.parts == ("backbone",)
    assert "ends in a batch norm" in weights.report
    assert "params/head" not in " ".join(weights.leaves)


def test_only_the_parts_that_are_asked_for():
    weights = network_in(without(SWAV, "module.projection_head.0.bias"), "FILE", ["backbone"])
    assert weights.parts == ("backbone",) and weights.model == MODEL
    assert "init_parts leaves it out: module.p" in weights.report


FIRST = "module.layer1.0.conv1.weight"
BROKEN = {
    "layer3.0.conv2.weight is missing": without(SWAV, "module.layer3.0.conv2.weight"),
    "bn1.running_var is missing": without(SWAV, "module.bn1.running_var"),
    "conv1.weight, a ResNet's first convolution, is missing": without(SWAV, "module.conv1.weight"),
    "projection_head.1.running_mean is missing; --config.init_parts=backbone": without(
        SWAV, "module.projection_head.1.running_mean"
    ),
    "projection_head.0.weight has the shape (16, 32), and the other tensors say (16, 64)": SWAV
    | {"module.projection_head.0.weight": np.ones((16, 32), "f")},
    "bn1.weight has the shape (16,), and the other tensors say (8,)": SWAV
    | {"module.bn1.weight": np.ones(16, "f")},
    "module.layer2.0.conv9.weight is in no network here": SWAV
    | {"module.layer2.0.conv9.weight": np.ones((8, 8, 3, 3), "f")},
    "its prototypes have the shapes (5, 7)": published.swav(VARIABLES)
    | {"module.prototypes.weight": np.ones((5, 7), "f")},
    "is a 5x5 convolution": SWAV | {"module.conv1.weight": np.ones((8, 3, 5, 5), "f")},
    "numbers that are not finite": SWAV | {FIRST: np.full((8, 8, 3, 3), np.nan, "f")},
    "quantised weights are not read": SWAV | {FIRST: np.ones((8, 8, 3, 3), "int8")},
    "BasicBlock blocks 2, 1, 1, 1": SWAV
    | {f"module.layer1.1.{name.removeprefix('module.layer1.0.')}": value
       for name, value in SWAV.items() if "layer1.0" in name},
    "wide_resnet50_2": {
        "conv1.weight": np.ones((64, 3, 7, 7), "f"),
        "layer1.0.conv1.weight": np.ones((128, 64, 1, 1), "f"),
        "layer1.0.conv2.weight": np.ones((128, 128, 3, 3), "f"),
        "layer1.0.conv3.weight": np.ones((256, 128, 1, 1), "f"),
    },
    "a ResNeXt": {
        "conv1.weight": np.ones((64, 3, 7, 7), "f"),
        "layer1.0.conv1.weight": np.ones((128, 64, 1, 1), "f"),
        "layer1.0.conv2.weight": np.ones((128, 4, 3, 3), "f"),
        "layer1.0.conv3.weight": np.ones((256, 128, 1, 1), "f"),
    },
    "projection_head.3.weight is missing": without(SWAV, "module.projection_head.3.weight"),
    "a set of prototypes is missing: there are prototypes.prototypes0.weight": without(
        SWAV, "module.prototypes.prototypes1.weight"
    ),
    "a set of prototypes is missing: there are prototypes.weight_v": without(
        published.solo_learn(weight_norm(SWAV)), "module.prototypes.weight_g"
    ),
    "conv1.weight has the shape (8, 27), which is no convolution's": SWAV
    | {"module.conv1.weight": np.ones((8, 27), "f")},
    "a Vision Transformer": {"module.cls_token": np.ones((1, 1, 8), "f")},
    "all are an optimiser's state": {"optimizer.state.0.momentum_buffer": np.ones(3, "f")},
    "it holds no tensors": {},
    "none of its 1 tensors is a backbone's": {"weight": np.ones(3, "f")},
    "are both conv1.weight": SWAV | {"state_dict.conv1.weight": np.ones(3, "f")},
    "module.layer1.0.conv1.bias is in no network here": SWAV
    | {"module.layer1.0.conv1.bias": np.ones(8, "f")},
}  # fmt: skip


@pytest.mark.parametrize("complaint", BROKEN)
def test_what_is_wrong_is_named(complaint):
    with pytest.raises(ValueError) as caught:
        network_in(BROKEN[complaint], "FILE")
    assert complaint in str(caught.value)


@pytest.mark.parametrize("prefix", ["features.module.", "features."])
def test_deepclusters_alexnet(prefix):
    model = backbone("alexnet_sobel")
    images = np.zeros((1, 224, 224, 3), np.float32)
    made = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    file = published.renamed(deepcluster_file(), (r"^features\.", prefix))
    weights = network_in(file, "FILE")
    assert weights.format.name == "DeepCluster" and weights.model["arch"] == "alexnet_sobel"
    assert isinstance(model, SobelNet)
    found = {c: tree["backbone"] for c, tree in variables_of(weights).items()}
    assert jax.tree.map(np.shape, found) == jax.tree.map(lambda leaf: leaf.shape, made)
    assert "a fixed filter, which the network has: sobel.0.weight" in weights.report


def deepcluster_file():
    channels = {0: (96, 2, 11), 4: (256, 96, 5), 8: (384, 256, 3), 11: (384, 384, 3),
                14: (256, 384, 3)}  # fmt: skip
    file = {
        "sobel.0.weight": np.ones((1, 3, 1, 1), "f"),
        "top_layer.weight": np.ones((9, 4096), "f"),
    }
    for n, (out, into, side) in channels.items():
        file |= {f"features.{n}.weight": np.zeros((out, into, side, side), "f")}
        file |= {f"features.{n}.bias": np.zeros(out, "f")}
        for kind in ("weight", "bias", "running_mean", "running_var"):
            file[f"features.{n + 1}.{kind}"] = np.zeros(out, "f")
    for n, width in {1: 256 * 6 * 6, 4: 4096}.items():
        file |= {f"classifier.{n}.weight": np.zeros((4096, width), "f")}
        file |= {f"classifier.{n}.bias": np.zeros(4096, "f")}
    return file


# ---- the libraries' own networks -----------------------------------------------------------------

PIXELS = 33  # odd: what is padded where shows


def with_statistics(torch, net):
    """The network in evaluation mode; its batch norms have the statistics of random images."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    with torch.no_grad():
        net.train()(torch.randn(4, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0)))
    return net.eval()


def of_torch(torch, net, images):
    """PyTorch's features in float64, and how far its float32 is from them."""
    images = torch.tensor(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        rounded = net(images).numpy()
        exact = deepcopy(net).double()(images.double()).numpy()
    return exact, np.linalg.norm(rounded - exact)


def assert_same_features(torch, state_dict, of_torch, tmp_path):
    """By a file of the network: as near to the exact features as PyTorch is, but for a factor."""
    torch.save(state_dict, tmp_path / "net.pth")
    weights = read_weights(tmp_path / "net.pth")
    model = backbone(weights.model["arch"], stem=weights.model["stem"])
    variables = {c: tree["backbone"] for c, tree in variables_of(weights).items()}
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, IMAGES)
    exact, error = of_torch
    assert np.linalg.norm(ours - exact) < 10 * error < 1e-2 * np.linalg.norm(exact)
    return weights


IMAGES = np.random.default_rng(0).normal(size=(2, PIXELS, PIXELS, 3)).astype("f")


DEEP = [pytest.param(arch, marks=pytest.mark.slow) for arch in ("resnet34", "resnet101")]


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", *DEEP])
def test_torchvisions_features(arch, tmp_path):
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision.models")
    net = with_statistics(torch, getattr(models, arch)())
    head, net.fc = net.fc, torch.nn.Identity()
    features = of_torch(torch, net, IMAGES)
    net.fc = head
    in_parallel = {f"module.{name}": value for name, value in net.state_dict().items()}
    weights = assert_same_features(torch, in_parallel, features, tmp_path)
    assert weights.model == {"arch": arch, "stem": "imagenet", "width": 0}
    assert "a classifier: module.fc.weight, module.fc.bias" in weights.report


def test_torchvisions_wide_network_is_another(tmp_path):
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision.models")
    torch.save(models.wide_resnet50_2().state_dict(), tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="wide_resnet50_2"):
        read_weights(tmp_path / "net.pth")


def test_timms_features(tmp_path):
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    net = with_statistics(torch, timm.create_model("resnet18", num_classes=0))
    assert_same_features(torch, net.state_dict(), of_torch(torch, net, IMAGES), tmp_path)


@pytest.mark.parametrize("arch", ["resnet50d", "seresnet50", "vit_tiny_patch16_224", "regnety_002"])
def test_other_networks_of_timm_are_refused(arch):
    timm = pytest.importorskip("timm")
    tensors = {name: x.numpy() for name, x in timm.create_model(arch).state_dict().items()}
    kind = {"resnet50d": "deep stem", "seresnet50": "squeeze", "regnety_002": "RegNet"}
    with pytest.raises(ValueError, match=kind.get(arch, "Vision Transformer")):
        network_in(tensors, "FILE")


def test_lightlys_example_of_swav(tmp_path):
    """The module of its example, written by hand: a ResNet's children, a head, prototypes."""
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision.models")
    nn = torch.nn
    net, head, prototypes = nn.Module(), nn.Module(), nn.Module()
    trunk = with_statistics(torch, models.resnet18())
    net.backbone = nn.Sequential(*list(trunk.children())[:-1])
    layers = nn.Linear(512, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8)
    head.layers = nn.Sequential(*layers)
    prototypes.heads = nn.ModuleList([nn.Linear(8, 5)])
    net.projection_head, net.prototypes = head, prototypes
    net.eval()
    exact = of_torch(torch, nn.Sequential(net.backbone, nn.Flatten()), IMAGES)
    features = exact[0].astype("f")
    with torch.no_grad():
        embedding = nn.functional.normalize(head.layers(torch.tensor(features)), dim=1)
        scores = prototypes.heads[0](embedding).numpy()
        bias = prototypes.heads[0].bias.numpy()
    weights = assert_same_features(torch, net.state_dict(), exact, tmp_path)
    assert weights.format.name == "lightly"
    variables = variables_of(weights)
    model = {key: weights.model[key] for key in ("head_hidden", "dim", "head_layers", "head_norm")}
    projection = ProjectionHead(*model.values())
    own = {c: tree["head"] for c, tree in variables.items()}
    z = np.array(projection.apply(own, features, train=False))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    np.testing.assert_allclose(z, embedding.numpy(), atol=1e-5)
    rows = variables["params"]["prototypes"]["prototypes0"]
    np.testing.assert_allclose(z @ rows.T + bias, scores, atol=1e-5)
    assert "scores are lower by it: prototypes.heads.0.bias" in weights.report
