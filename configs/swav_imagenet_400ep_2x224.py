"""SwAV on ImageNet without small crops: ResNet-50, 400 epochs, batch 4096, 2x224 crops.

Source: Caron et al., 2020, and the settings published with it; the two crops have scale 0.08 to 1.

  python main.py --config=configs/swav_imagenet_400ep_2x224.py --workdir=runs/swav_2x224 \
    --config.data.data_dir=/data/tfds

Published: 64 V100 GPUs; linear evaluation 70.1 % top-1. The time is not published.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import TWO_CROPS, swav


def get_config() -> ConfigDict:
    return swav(epochs=400, crops=TWO_CROPS)
