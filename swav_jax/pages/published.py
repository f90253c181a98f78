"""Published numbers to compare with: of the same data sets, network and protocol."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict


class Published(NamedTuple):
    """A number in a paper."""

    value: float
    of: str  # the training that it is of, and where it stands


Figures = dict[tuple[str, str], Published]  # by (task, figure)

IMAGENET, VOC07 = "tfds:imagenet2012", "tfds:voc/2007"
_DINO = "Caron et al., 2021, table 2"
_VICREG = "Bardes et al., 2022"
_PCL = "v2, 200 epochs; Li et al., 2021"
_INTERPOLATED = "interpolated precision"  # which is a little higher
_VOC = f"table 2; {_INTERPOLATED}"

# Of ResNet-50 trained on ImageNet, by method and the data set that it is evaluated on.
NUMBERS: dict[tuple[str, str], Figures] = {
    ("swav", IMAGENET): {
        ("knn", "top1"): Published(65.7, f"800 epochs; {_DINO}"),
        ("linear", "best_top1"): Published(75.3, "800 epochs; Caron et al., 2020"),
        ("semisup", "1pct_top1"): Published(53.9, f"800 epochs; {_VICREG}, table 1"),
        ("semisup", "10pct_top1"): Published(70.2, f"800 epochs; {_VICREG}, table 1"),
    },
    ("deepcluster_v2", IMAGENET): {
        ("knn", "top1"): Published(67.1, f"800 epochs; {_DINO}"),
        ("linear", "best_top1"): Published(75.2, "800 epochs; Caron et al., 2020"),
    },
    ("sela_v2", IMAGENET): {
        ("linear", "best_top1"): Published(71.8, "400 epochs; Caron et al., 2020"),
    },
    ("simclr", IMAGENET): {
        ("knn", "top1"): Published(60.7, _DINO),
        ("linear", "best_top1"): Published(69.3, "1,000 epochs; Chen et al., 2020"),
    },
    ("moco", IMAGENET): {
        ("knn", "top1"): Published(61.9, _DINO),
        ("linear", "best_top1"): Published(71.1, "800 epochs; Chen et al., 2020"),
    },
    ("pcl", IMAGENET): {("linear", "best_top1"): Published(67.6, _PCL)},
    # Over all recalls, not VOC07's eleven, as VISSL (facebookresearch/barlowtwins#32) and PCL do.
    ("swav", VOC07): {("svm", "map"): Published(88.9, f"800 epochs; {_VICREG}, {_VOC}")},
    ("simclr", VOC07): {("svm", "map"): Published(85.5, f"{_VICREG}, {_VOC}")},
    ("moco", VOC07): {("svm", "map"): Published(86.4, f"{_VICREG}, {_VOC}")},
    ("pcl", VOC07): {
        ("svm", "map"): Published(85.4, f"{_PCL}; {_INTERPOLATED}"),
        **{
            ("svm", f"low_shot_{k}"): Published(value, f"{_PCL}; {_INTERPOLATED}")
            for k, value in {1: 47.9, 2: 59.6, 4: 66.2, 8: 74.5, 16: 78.3}.items()
        },
    },
}
TEST_IMAGES = {IMAGENET: 50_000, VOC07: 4_952}  # that these were measured on: all there are


def published(config: ConfigDict, results: Mapping[str, Any]) -> Figures:
    """What is published of a run's method, network and data, by (task, figure).

    Args:
      config: of the run.
      results: its `results.json`, whose figures may be of other images.
    """
    data, evaluated = config.data, config.eval.data_name or config.data.name
    same = data.name == IMAGENET and data.train == "train" and config.model.arch == "resnet50"
    known = NUMBERS.get((config.method.name, evaluated), {}) if same else {}
    return {
        (task, name): number
        for (task, name), number in known.items()
        if _test_images(results.get(task, {})) == TEST_IMAGES[evaluated]
    }


def _test_images(figures: Mapping[str, Any]) -> int:
    """How many images a task's figures were measured on; 0 if that is not said."""
    said = figures.get("images", {}).get("test", "0 images").partition(" ")[0]
    return int(figures.get("test_images", said))
