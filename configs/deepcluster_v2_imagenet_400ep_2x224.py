"""DeepCluster-v2 on ImageNet without small crops: ResNet-50, 400 epochs, batch 4096, 2x224 crops.

Source: Caron et al., 2020, and the settings published with it: three heads of 3000 prototypes,
float32, batch norm synchronised over groups of 512 images.

  python main.py --config=configs/deepcluster_v2_imagenet_400ep_2x224.py \
    --workdir=runs/deepcluster_v2_2x224 --config.data.data_dir=/data/tfds

Published: 64 V100 GPUs; linear evaluation 70.2 % top-1. The time is not published.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import TWO_CROPS, deepcluster_v2


def get_config() -> ConfigDict:
    return deepcluster_v2(epochs=400, crops=TWO_CROPS)
