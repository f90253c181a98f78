"""SeLa-v2 on ImageNet: ResNet-50, 400 epochs, 2x160 + 4x96 crops.

Source: Caron et al., 2020. Published are the crops, the epochs and the result; training code and
settings are not. All else here is as published for DeepCluster-v2 with the same crops, after which
its author describes SeLa-v2, and is a guess: optimiser, batch, heads, prototypes, and the settings
of Sinkhorn that `swav_jax/methods/sela_v2.py` names.

  python main.py --config=configs/sela_v2_imagenet_400ep.py \
    --workdir=runs/sela_v2_400ep --config.data.data_dir=/data/tfds

Published: linear evaluation 71.8 % top-1. Hardware and time are not published.
Not run by us at full length.
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def get_config() -> ConfigDict:
    config = defaults("sela_v2")
    config.train.epochs = 400
    config.data.crops = ((2, 160, 0.08, 1.0), (4, 96, 0.05, 0.14))
    config.model.dtype = "float32"
    config.model.prototype_heads = 3
    config.model.bn_groups = 4096 // 512
    return config
