"""DeepCluster-v2 on ImageNet: ResNet-50, 400 epochs, batch 4096, 2x160 + 4x96 crops.

Source: Caron et al., 2020, and the settings published with it: three heads of 3000 prototypes,
float32, batch norm synchronised over groups of 512 images.

  python main.py --config=configs/deepcluster_v2_imagenet_400ep.py \
    --workdir=runs/deepcluster_v2_400ep --config.data.data_dir=/data/tfds

Published: 64 V100 GPUs for 21.5 h (3:13 an epoch); linear evaluation 74.3 % top-1.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import ABLATION_CROPS, deepcluster_v2


def get_config() -> ConfigDict:
    return deepcluster_v2(epochs=400, crops=ABLATION_CROPS)
