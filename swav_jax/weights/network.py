"""A trained backbone with what its users need beside the weights: sizes and preprocessing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Float32

from swav_jax.models.backbones import Backbone


class Preprocessing(TypedDict):
    """How an image becomes what a network takes: floats from 0 to 1, resized, cut, normalised.

    The shorter side becomes `resize` pixels (bilinear, antialiased), of which the central square
    of `crop` pixels is kept; 0 leaves an image as it is.
    """

    mean: Sequence[float]
    std: Sequence[float]
    resize: int
    crop: int
    interpolation: str


@dataclass(frozen=True)
class Network:
    """What is exported.

    Attributes:
      arch: of `models.backbones.ARCHS`.
      stem: of `models.resnet.STEMS`.
      backbone: the module.
      variables: `{"params": ..., "batch_stats": ...}` with `backbone` and perhaps `head`,
        `prototypes` and `classifier`, the linear one that was trained on the backbone.
      preprocessing: that it was trained with.
      images: N examples, preprocessed; what is written is proven on them.
      about: the run in a few words, for readers of the file.
    """

    arch: str
    stem: str
    backbone: Backbone
    variables: Mapping[str, Any]
    preprocessing: Preprocessing
    images: Float32[np.ndarray, "N S S 3"]
    about: str

    @property
    def classes(self) -> int:
        """K of the classifier; 0 without one."""
        classifier = self.variables["params"].get("classifier")
        return len(classifier["bias"]) if classifier else 0

    def backbone_variables(self) -> dict[str, Any]:
        """Those of the backbone alone."""
        return {collection: tree["backbone"] for collection, tree in self.variables.items()}
