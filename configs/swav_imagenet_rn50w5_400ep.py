"""SwAV on ImageNet with a network five times as wide: ResNet-50 w5, 400 epochs.

Source: Caron et al., 2020, for the network and the 400 epochs. The training script is not
published: batch, crops, learning rate, queue and the groups of batch norm are those published for
the w4 network, which is a guess.

  python main.py --config=configs/swav_imagenet_rn50w5_400ep.py --workdir=runs/swav_rn50w5 \
    --config.data.data_dir=/data/tfds

Published: linear evaluation 78.5 % top-1. The hardware and time are not published.
Not run by us at full length.
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def get_config() -> ConfigDict:
    config = defaults("swav")
    config.train.epochs = 400
    config.data.batch_size = 2560
    config.data.crops = ((2, 224, 0.08, 1.0), (4, 96, 0.08, 0.14))
    config.model.arch = "resnet50w5"
    config.model.head_hidden = 8192
    config.model.bn_groups = 2560 // 320
    config.method.queue_length = 2560
    config.method.queue_start_epoch = 0
    return config
