"""SwAV on a folder of your own small images: the data changes, all else is `swav_cifar10_small.py`.

`data.data_dir` holds `train/<class>/*.jpg` and `test/<class>/*.jpg`, or only images to train on:
without classes there is no k-NN. Any of about 32 pixels will do.

  python main.py --config=configs/swav_small_images.py --workdir=runs/mine \
    --config.data.data_dir=/my/images
"""

from ml_collections import ConfigDict

from configs.swav_cifar10_small import get_config as swav_cifar10_small


def get_config() -> ConfigDict:
    config = swav_cifar10_small()
    config.data.name = "folder"
    config.data.train = "train"
    config.data.test = "test"
    return config
