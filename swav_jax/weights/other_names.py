"""The names that other libraries give a ResNet's tensors, as rewritings of torchvision's."""

import re
from collections.abc import Mapping, Sequence

Rules = Sequence[tuple[str, str]]  # pattern and replacement, all applied in turn

# As its tools/convert-torchvision-to-d2.py documents.
DETECTRON2: Rules = (
    (r"^(?!layer)", "stem."),
    *((f"^layer{stage}", f"res{stage + 1}") for stage in (1, 2, 3, 4)),
    (r"bn(\d)", r"conv\1.norm"),
    (r"downsample\.0", "shortcut"),
    (r"downsample\.1", "shortcut.norm"),
)

# As `transformers.ResNetModel` names them.
HUGGINGFACE: Rules = (
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    *((rf"^layer{stage + 1}\.(\d+)", rf"encoder.stages.{stage}.layers.\1") for stage in range(4)),
    *((rf"\.conv{place + 1}\.", f".layer.{place}.convolution.") for place in range(3)),
    *((rf"\.bn{place + 1}\.", f".layer.{place}.normalization.") for place in range(3)),
    (r"\.downsample\.0\.", ".shortcut.convolution."),
    (r"\.downsample\.1\.", ".shortcut.normalization."),
)


def renamed(names: Mapping[str, object] | Sequence[str], rules: Rules) -> dict[str, str]:
    """Each name to its new one.

    Raises:
      ValueError: two names would become one.
    """
    new = {}
    for name in names:
        new[name] = name
        for pattern, replacement in rules:
            new[name] = re.sub(pattern, replacement, new[name])
    if len(set(new.values())) < len(new):
        raise ValueError(f"the rules give one name to several of {', '.join(new)}")
    return new
