"""PCL v2 on ImageNet: ResNet-50, 200 epochs, batch 256, 2x224 crops.

Source: Li et al., 2021, and the settings published with it for version 2: head of two layers,
augmentation of MoCo-v2, cosine schedule by epoch. Clusters of 25,000, 50,000 and 100,000.

  python main.py --config=configs/pcl_v2_imagenet_200ep.py --workdir=runs/pcl_v2 \
    --config.data.data_dir=/data/tfds

Published: linear evaluation 67.6 % top-1; hardware and time are not.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import moco_v2
from swav_jax.config import of_method


def get_config() -> ConfigDict:
    config = of_method(moco_v2(epochs=200), "pcl")
    config.model.prototypes = 25_000
    return config
