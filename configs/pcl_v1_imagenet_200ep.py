"""PCL v1 on ImageNet: ResNet-50, 200 epochs, batch 256, 2x224 crops.

Source: Li et al., 2021, and the settings published with it for version 1: linear head, augmentation
of MoCo-v1, learning rate divided by 10 at epochs 120 and 160. Clusters of 25,000, 50,000 and
100,000.

  python main.py --config=configs/pcl_v1_imagenet_200ep.py --workdir=runs/pcl_v1 \
    --config.data.data_dir=/data/tfds

Published: linear evaluation 61.5 % top-1; hardware and time are not.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import momentum_contrast


def get_config() -> ConfigDict:
    config = momentum_contrast("pcl", epochs=200)
    config.augment.jitter = 1.0
    config.augment.hue = 0.4
    config.augment.blur = 0.0
    config.augment.order = ("grey", "jitter", "flip")
    config.model.head_hidden = 0
    config.model.prototypes = 25_000
    config.optim.schedule = "drops"
    config.optim.drop_epochs = (120, 160)
    return config
