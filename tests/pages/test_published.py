import pytest

from swav_jax.config import defaults
from swav_jax.pages.published import published


def imagenet(method="swav", **settings):
    config = defaults(method)  # ImageNet and ResNet-50
    config.update_from_flattened_dict(settings)
    return config


ALL = {"knn": {"test_images": 50_000}, "linear": {"test_images": 1_000}}


def test_numbers_of_the_same_data_network_and_protocol():
    found = published(imagenet(), ALL)
    assert {key: number.value for key, number in found.items()} == {("knn", "top1"): 65.7}
    voc = imagenet("pcl", **{"eval.data_name": "tfds:voc/2007"})
    results = {"svm": {"images": {"test": "4952 images, record 0 first"}}}
    assert published(voc, results)["svm", "low_shot_16"].value == 78.3


@pytest.mark.parametrize(
    "settings",
    [
        {"data.name": "tfds:cifar10"},
        {"data.train": "train[:10%]"},
        {"model.arch": "resnet18"},
        {"eval.data_name": "folder", "eval.data_dir": "/photos"},
    ],
    ids=str,
)
def test_none_of_others(settings):
    assert published(imagenet(**settings), ALL) == {}
