"""DeepCluster-v2 on ImageNet: ResNet-50, 400 epochs, batch 4096, 2x160 + 4x96 crops.

Source: Caron et al., 2020, and the settings published with it: three heads of 3000 prototypes,
float32, batch norm synchronised over groups of 512 images.

  python main.py --config=configs/deepcluster_v2_imagenet_400ep.py \
    --workdir=runs/deepcluster_v2_400ep --config.data.data_dir=/data/tfds

Published: 64 V100 GPUs for 21.5 h (3:13 an epoch); linear evaluation 74.3 % top-1.
Not run by us at full length.
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def get_config() -> ConfigDict:
    config = defaults("deepcluster_v2")
    config.train.epochs = 400
    config.data.crops = ((2, 160, 0.08, 1.0), (4, 96, 0.05, 0.14))
    config.model.dtype = "float32"
    config.model.prototype_heads = 3
    config.model.bn_groups = 4096 // 512
    return config
