"""Published numbers to compare with: of the same data set, network and protocol."""

from typing import NamedTuple

from ml_collections import ConfigDict


class Published(NamedTuple):
    """A number in a paper."""

    value: float
    of: str  # the training that it is of, and where it stands


IMAGENET = "tfds:imagenet2012"
_SWAV = "swav", "resnet50"
_DEEPCLUSTER_V2 = "deepcluster_v2", "resnet50"
_DINO = "Caron et al., 2021, table 2"
_CARON = "800 epochs; Caron et al., 2020"
_VICREG = "Bardes et al., 2022, table 1"

# By (method, network), then (task, figure); all of ImageNet, by the protocols of our tasks.
NUMBERS: dict[tuple[str, str], dict[tuple[str, str], Published]] = {
    _SWAV: {
        ("knn", "top1"): Published(65.7, f"800 epochs; {_DINO}"),
        ("linear", "best_top1"): Published(75.3, _CARON),
        ("semisup", "1pct_top1"): Published(53.9, f"800 epochs; {_VICREG}"),
        ("semisup", "10pct_top1"): Published(70.2, f"800 epochs; {_VICREG}"),
    },
    _DEEPCLUSTER_V2: {
        ("knn", "top1"): Published(67.1, f"800 epochs; {_DINO}"),
        ("linear", "best_top1"): Published(75.2, _CARON),
    },
    ("sela_v2", "resnet50"): {
        ("linear", "best_top1"): Published(71.8, "400 epochs; Caron et al., 2020")
    },
    ("simclr", "resnet50"): {
        ("knn", "top1"): Published(60.7, _DINO),
        ("linear", "best_top1"): Published(69.3, "1,000 epochs; Chen et al., 2020"),
    },
    ("moco", "resnet50"): {
        ("knn", "top1"): Published(61.9, _DINO),
        ("linear", "best_top1"): Published(71.1, "800 epochs; Chen et al., 2020"),
    },
    ("pcl", "resnet50"): {
        ("linear", "best_top1"): Published(67.6, "v2, 200 epochs; Li et al., 2021")
    },
}


def published(config: ConfigDict) -> dict[tuple[str, str], Published]:
    """What is published of a run's method and network, by (task, figure); nothing of other data."""
    evaluated = config.eval.data_name or config.data.name
    if not (config.data.name == evaluated == IMAGENET) or config.eval.data_dir:
        return {}
    return NUMBERS.get((config.method.name, config.model.arch), {})
