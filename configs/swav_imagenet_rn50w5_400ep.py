"""SwAV on ImageNet with a network five times as wide: ResNet-50 w5, 400 epochs.

Source: Caron et al., 2020, for the network and the 400 epochs. The training script is not
published: batch, crops, learning rate, queue and the groups of batch norm are those published for
the w4 network, which is a guess.

  python main.py --config=configs/swav_imagenet_rn50w5_400ep.py --workdir=runs/swav_rn50w5 \
    --config.data.data_dir=/data/tfds

Published: linear evaluation 78.5 % top-1. The hardware and time are not published.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.swav_imagenet_rn50w4_400ep import get_config as rn50w4


def get_config() -> ConfigDict:
    config = rn50w4()
    config.model.arch = "resnet50w5"
    return config
