"""Networks as other libraries publish them: their tensors by those libraries' names."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from swav_jax.models.backbones import backbone
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.weights.torch_names import to_torch

CROPS = [jnp.zeros((1, 1, 32, 32, 3))]


def network(seed=0, norm=True, stem="cifar", arch="resnet10_tiny", width=0, layers=2):
    """Encoder, its variables with random numbers for all, and 3 sets of 5 prototypes."""
    head = ProjectionHead(hidden=16, dim=8, layers=layers, norm=norm)
    encoder = Encoder(backbone(arch, stem=stem, width=width), head)
    shapes = jax.eval_shape(lambda: encoder.init(jax.random.key(0), CROPS, train=False))
    rng = np.random.default_rng(seed)
    # Positive, as variances are.
    variables = jax.tree.map(lambda leaf: rng.uniform(0.5, 1, leaf.shape).astype("f"), shapes)
    sets = {f"prototypes{h}": rng.normal(size=(5, 8)).astype("f") for h in range(3)}
    return encoder, variables, sets


def swav(variables, sets=None):
    """The published names, of `module.conv1.weight`'s kind."""
    params = variables["params"] | ({"prototypes": sets} if sets else {})
    tensors = to_torch({"params": params, "batch_stats": variables["batch_stats"]})
    norms = [name for name in tensors if name.endswith("running_var")]
    counts = {n.replace("running_var", "num_batches_tracked"): np.array(7) for n in norms}
    return {f"module.{name}": value for name, value in (tensors | counts).items()}


def renamed(tensors, *substitutions):
    """The tensors whose names match, under their new names."""
    found = {}
    for name, value in tensors.items():
        for pattern, new in substitutions:
            name = re.sub(pattern, new, name)
        if name:
            found[name] = value
    return found


def in_sequence(name):
    """The substitutions that make a ResNet the `nn.Sequential` of its children."""
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    return [(rf"^module\.{child}\.", f"{name}.{n}.") for child, n in numbers.items()]


def momentum_contrast(tensors, encoder):
    """An encoder of MoCo and PCL, whose head is its last layer."""
    head = (r"^module\.projection_head\.", f"module.{encoder}.fc.")
    body = (r"^module\.(?!encoder_)", f"module.{encoder}.")
    return renamed(tensors, head, body)


def solo_learn(tensors, momentum=""):
    head = (r"^module\.projection_head\.", f"{momentum}projector.")
    return renamed(tensors, head, (r"^module\.(?!prototypes)", f"{momentum}backbone."))


def vissl(tensors):
    head = (r"^module\.projection_head\.", "heads.0.projection_head.")
    sets = (r"^module\.prototypes\.(prototypes\d)", r"heads.0.\1")
    body = (r"^module\.", "trunk._feature_blocks.")
    inside = (r"^", "classy_state_dict.base_model.model.")
    return renamed(tensors, head, sets, body, inside)


def transformers(tensors):
    """`ResNetModel`, whose stages and layers are numbered from 0."""
    found = {}
    for name, value in tensors.items():
        name = name.removeprefix("module.")
        stem = re.match(r"(conv1|bn1)\.(.*)", name)
        block = re.match(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.*)", name)
        kind = {"conv": "convolution", "bn": "normalization"}
        if stem:
            kinds = {"conv1": "convolution", "bn1": "normalization"}
            found[f"embedder.embedder.{kinds[stem[1]]}.{stem[2]}"] = value
        elif block:
            stage, layer, what, number, rest = block.groups()
            place = f"encoder.stages.{int(stage) - 1}.layers.{layer}"
            if what == "downsample.":
                inner = f"shortcut.{['convolution', 'normalization'][int(number)]}"
            else:
                inner = f"layer.{int(number) - 1}.{kind[what]}"
            found[f"{place}.{inner}.{rest}"] = value
    return found
