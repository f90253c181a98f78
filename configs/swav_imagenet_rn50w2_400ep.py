"""SwAV on ImageNet with a network twice as wide: ResNet-50 w2, 400 epochs, 2x224 + 4x96 crops.

Source: Caron et al., 2020, and the settings published with it. 32 images a GPU: batch norm is
synchronised over groups of 256 images.

  python main.py --config=configs/swav_imagenet_rn50w2_400ep.py --workdir=runs/swav_rn50w2 \
    --config.data.data_dir=/data/tfds

Published: 128 V100 GPUs; linear evaluation 77.3 % top-1. The time is not published.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import swav


def get_config() -> ConfigDict:
    config = swav(epochs=400, crops=((2, 224, 0.14, 1.0), (4, 96, 0.05, 0.14)))
    config.model.arch = "resnet50w2"
    config.model.head_hidden = 8192
    config.model.bn_groups = 4096 // 256
    return config
