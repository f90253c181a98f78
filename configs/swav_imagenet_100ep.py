"""SwAV on ImageNet: ResNet-50, 100 epochs, batch 4096, 2x224 + 6x96 crops.

Source: Caron et al., 2020, and the settings published with it for 100 epochs. They are this
library's defaults. Batch norm is synchronised over groups of 512 images.

  python main.py --config=configs/swav_imagenet_100ep.py --workdir=runs/swav_100ep \
    --config.data.data_dir=/data/tfds

Published: 64 V100 GPUs for 6 h (3:40 an epoch); linear evaluation 72.1 % top-1.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import swav


def get_config() -> ConfigDict:
    return swav(epochs=100)
