"""What other libraries call a network's tensors: a table of name rules for each format.

A rule is a pattern for a whole name and the published SwAV name in its place, which `torch_names`
then turns into ours; `key_encoder.` begins the names of a momentum encoder. The part of a name that
WRAPPERS matches is taken off before.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Rules = tuple[tuple[str, str], ...]

# Dicts around a state dict, DataParallel's module, attributes of a trainer.
WRAPPERS = (
    r"(?:(?:state_dict|model_state_dict|classy_state_dict|base_model|model|module|network)\.)*"
)
RESNET = r"((?:conv1|bn1|layer\d+\.\d+)\..+)"
HEAD = r"projection_head"

TORCHVISION_STD = (0.229, 0.224, 0.225)
SWAV_STD = (0.228, 0.224, 0.225)  # of red: what SwAV's own code has

# Why tensors that no rule knows are left, in every format.
UNUSED: Rules = (
    (r".*num_batches_tracked", "counts, which a fixed momentum does not need"),
    (r".*optim.*", "an optimiser's state"),
    (r"(?:.*\.)?queue(?:_ptr)?", "embeddings of earlier batches"),
)
CLASSIFIER = "a classifier"


@dataclass(frozen=True)
class Format:
    """The names of one library or of several that agree.

    Attributes:
      name: of the libraries, for people.
      rules: from its names to the published names of SwAV; the first that matches is it.
      unused: patterns of further names, and why those tensors are not used.
      std: by which images are divided, after ImageNet's mean is subtracted.
      warning: of what names and shapes cannot show, for networks with a stem for small images.
    """

    name: str
    rules: Rules
    unused: Rules = ()
    std: tuple[float, float, float] = TORCHVISION_STD
    warning: str = ""


def _behind(prefix: str, ours: str = "") -> tuple[str, str]:
    """The rule of a ResNet whose names begin with `prefix`."""
    return prefix + RESNET, rf"{ours}\1"


def _momentum_contrast() -> Rules:
    """Encoders whose last layer is the head: `fc` in version 1, `fc.0` and `fc.2` in version 2."""
    return tuple(
        rule
        for theirs, ours in ((r"encoder_q\.", ""), (r"encoder_k\.", "key_encoder."))
        for rule in (_behind(theirs, ours), (rf"{theirs}fc\.(.+)", rf"{ours}{HEAD}.\1"))
    )


def _sequential(prefix: str, ours: str = "") -> Rules:
    """A torchvision ResNet as `nn.Sequential` of its children: 0 is conv1, 4 is layer1."""
    stages = tuple(
        (rf"{prefix}{3 + stage}\.(\d+\..+)", rf"{ours}layer{stage}.\1") for stage in range(1, 5)
    )
    stem = ((rf"{prefix}0\.(.+)", rf"{ours}conv1.\1"), (rf"{prefix}1\.(.+)", rf"{ours}bn1.\1"))
    return stem + stages


def _transformers() -> Rules:
    """`ResNetModel`: stages and layers are numbered from 0."""
    prefix = r"(?:resnet\.)?"
    rules = [
        (rf"{prefix}embedder\.embedder\.convolution\.(.+)", r"conv1.\1"),
        (rf"{prefix}embedder\.embedder\.normalization\.(.+)", r"bn1.\1"),
    ]
    for stage in range(4):
        block = rf"{prefix}encoder\.stages\.{stage}\.layers\.(\d+)\."
        ours = rf"layer{stage + 1}.\1"
        for i in range(3):
            rules.append((rf"{block}layer\.{i}\.convolution\.(.+)", rf"{ours}.conv{i + 1}.\2"))
            rules.append((rf"{block}layer\.{i}\.normalization\.(.+)", rf"{ours}.bn{i + 1}.\2"))
        rules.append((rf"{block}shortcut\.convolution\.(.+)", rf"{ours}.downsample.0.\2"))
        rules.append((rf"{block}shortcut\.normalization\.(.+)", rf"{ours}.downsample.1.\2"))
    return tuple(rules)


# The format of a file is the one that knows most of its names, the first of several.
FORMATS = (
    Format("torchvision, timm", (_behind(""),), unused=((r"fc\..+", CLASSIFIER),)),
    Format(
        "SwAV, DeepCluster-v2, SeLa-v2",
        (
            _behind(""),
            (rf"({HEAD}\..+)", r"\1"),
            (r"(prototypes\.(?:prototypes\d+\.)?weight)", r"\1"),
        ),
        unused=((r"fc\..+", CLASSIFIER),),
        std=SWAV_STD,
    ),
    Format("MoCo, PCL", _momentum_contrast()),
    Format(
        "SimCLR, torch.hub",
        (
            _behind(r"(?:backbone|encoder)\."),
            (r"(?:backbone|encoder)\.fc\.(\d.*)", rf"{HEAD}.\1"),
            (rf"(?:projector|projection|{HEAD})\.(?:layers\.|model\.)?(\d.*)", rf"{HEAD}.\1"),
        ),
        unused=((r"(?:backbone|encoder)\.fc\.[a-z]+", CLASSIFIER),),
    ),
    Format(
        "lightly",
        (
            _behind(r"backbone\."),
            *_sequential(r"backbone\."),
            (rf"{HEAD}\.layers\.(.+)", rf"{HEAD}.\1"),
            (r"prototypes\.heads\.(\d+)\.weight", r"prototypes.prototypes\1.weight"),
            _behind(r"backbone_momentum\.", "key_encoder."),
            *_sequential(r"backbone_momentum\.", "key_encoder."),
            (rf"{HEAD}_momentum\.layers\.(.+)", rf"key_encoder.{HEAD}.\1"),
        ),
        unused=(
            (r"prototypes\..*bias", "prototypes have no bias here: scores are lower by it"),
            (r"(?:online_)?classifier\..+", CLASSIFIER),
        ),
    ),
    Format(
        "solo-learn",
        (
            _behind(r"(?:backbone|encoder)\."),
            (r"projector\.(.+)", rf"{HEAD}.\1"),
            (r"(prototypes\.(?:weight(?:_[gv])?|parametrizations\..+))", r"\1"),
            _behind(r"momentum_(?:backbone|encoder)\.", "key_encoder."),
            (r"momentum_projector\.(.+)", rf"key_encoder.{HEAD}.\1"),
        ),
        unused=((r"(?:momentum_)?classifier\..+", CLASSIFIER),),
        warning="solo-learn pads images by 2 before a 3x3 stem, this network by 1: its features "
        "differ a little at the borders",
    ),
    Format(
        "VISSL",
        (
            _behind(r"(?:trunk\.)?_feature_blocks\."),
            (rf"heads\.0\.{HEAD}\.(.+)", rf"{HEAD}.\1"),
            (r"heads\.0\.prototypes(\d+)\.weight", r"prototypes.prototypes\1.weight"),
        ),
        unused=((r"heads\..+", CLASSIFIER), (r"loss\..+", "the state of a loss")),
    ),
    Format(
        "DeepCluster",
        (
            (r"features\.(?:module\.)?(\d+\..+)", r"features.\1"),
            (r"(classifier\.\d+\..+)", r"\1"),
        ),
        unused=(
            (r"top_layer\..+", "a classifier of clusters, made anew at each clustering"),
            (r"sobel\..+", "a fixed filter, which the network has"),
        ),
    ),
    Format("transformers", _transformers(), unused=((r"classifier\..+", CLASSIFIER),)),
)

# Names of networks that are not here, for a message that says what a file holds.
FOREIGN: Rules = (
    (r"(?:.*\.)?(?:cls_token|pos_embed|patch_embed|class_token|class_embedding)\b.*",
     "a Vision Transformer"),
    (r"(?:.*\.)?conv1\.\d+\.weight", "a ResNet with a deep stem"),
    (r"(?:.*\.)?layer\d\.\d+\.se\..+", "a squeeze-and-excitation network"),
    (r"(?:.*\.)?denseblock.+", "a DenseNet"),
    (r"(?:.*\.)?(?:conv_dw|conv_pw)\b.*", "an EfficientNet or MobileNet"),
    (r"(?:.*\.)?(?:trunk_output|s\d\.b\d+)\..+", "a RegNet"),
    (r"(?:.*\.)?(?:stages\.\d+\.blocks|downsample_layers)\..+", "a ConvNeXt"),
)  # fmt: skip


@dataclass(frozen=True)
class Recognised:
    """The tensors of a file.

    Attributes:
      format: of the file.
      tensors: by their published SwAV name.
      names: in the file, by the same.
      unused: the other names in the file, and why those tensors are not used.
    """

    format: Format
    tensors: dict[str, np.ndarray]
    names: dict[str, str]
    unused: dict[str, str]


def recognise(tensors: Mapping[str, np.ndarray]) -> Recognised:
    """Finds the format of a file's tensors; if none knows a name, it is any, without tensors.

    Raises:
      ValueError: two tensors have one name in the format.
    """
    inner = {name: re.sub(f"^{WRAPPERS}", "", name) for name in tensors}

    def known(format: Format) -> int:
        return sum(
            _translated(name, format.rules) is not None
            or _translated(name, format.unused) is not None
            for name in inner.values()
        )

    format = max(FORMATS, key=known)
    names: dict[str, str] = {}
    unused = {}
    for name, bare in inner.items():
        ours = None if bare.endswith("num_batches_tracked") else _translated(bare, format.rules)
        if ours is None:
            why = _translated(bare, UNUSED) or _translated(bare, format.unused)
            unused[name] = why or "no part of a network here"
        elif ours in names:
            raise ValueError(f"{names[ours]} and {name} are both {ours} of a network")
        else:
            names[ours] = name
    found = {ours: tensors[name] for ours, name in names.items()}
    return Recognised(format, found, names, unused)


def foreign(tensors: Mapping[str, np.ndarray]) -> str:
    """What network a file seems to hold that is not here; "" if that cannot be told."""
    return next(filter(None, (_translated(name, FOREIGN) for name in tensors)), "")


def _translated(name: str, rules: Rules) -> str | None:
    """What the first rule that matches gives for a name."""
    for pattern, ours in rules:
        if match := re.fullmatch(pattern, name):
            return match.expand(ours)
    return None
