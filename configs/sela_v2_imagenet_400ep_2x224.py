"""SeLa-v2 on ImageNet without small crops: ResNet-50, 400 epochs, 2x224 crops.

Source: Caron et al., 2020. Published are the crops, the epochs and the result; training code and
settings are not. All else here is as published for DeepCluster-v2 with the same crops, after which
its author describes SeLa-v2, and is a guess: optimiser, batch, heads, prototypes, and the settings
of Sinkhorn that `swav_jax/methods/sela_v2.py` names.

  python main.py --config=configs/sela_v2_imagenet_400ep_2x224.py \
    --workdir=runs/sela_v2_2x224 --config.data.data_dir=/data/tfds

Published: linear evaluation 67.2 % top-1. Hardware and time are not published.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import TWO_CROPS, deepcluster_v2
from swav_jax.config import of_method


def get_config() -> ConfigDict:
    return of_method(deepcluster_v2(epochs=400, crops=TWO_CROPS), "sela_v2")
