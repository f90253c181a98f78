"""SwAV on ImageNet: ResNet-50, 800 epochs, batch 4096, 2x224 + 6x96 crops.

Source: Caron et al., 2020, and the settings published with it for 800 epochs. They are this
library's defaults. Batch norm is synchronised over groups of 512 images.

  python main.py --config=configs/swav_imagenet_800ep.py --workdir=runs/swav_800ep \
    --config.data.data_dir=/data/tfds

Published: 64 V100 GPUs for 49 h (3:40 an epoch); linear evaluation 75.3 % top-1, k-NN 65.7 %.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import swav


def get_config() -> ConfigDict:
    return swav(epochs=800)
