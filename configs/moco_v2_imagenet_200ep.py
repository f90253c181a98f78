"""MoCo-v2 on ImageNet: ResNet-50, 200 epochs, batch 256, 2x224 crops.

Source: Chen et al., 2020, "Improved Baselines with Momentum Contrastive Learning". Batch norm is
that of the whole batch here, instead of 8 parts with shuffled keys.

  python main.py --config=configs/moco_v2_imagenet_200ep.py --workdir=runs/moco_v2_200ep \
    --config.data.data_dir=/data/tfds

Published: 8 V100 GPUs for 53 h; linear evaluation 67.5 % top-1.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import moco_v2


def get_config() -> ConfigDict:
    return moco_v2(epochs=200)
