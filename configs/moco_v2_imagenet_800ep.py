"""MoCo-v2 on ImageNet: ResNet-50, 800 epochs, batch 256, 2x224 crops.

Source: Chen et al., 2020, "Improved Baselines with Momentum Contrastive Learning". Batch norm is
that of the whole batch here, instead of 8 parts with shuffled keys.

  python main.py --config=configs/moco_v2_imagenet_800ep.py --workdir=runs/moco_v2_800ep \
    --config.data.data_dir=/data/tfds

Published: 8 V100 GPUs, 53 h for 200 epochs; linear evaluation 71.1 % top-1.
Not run by us at full length.
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def get_config() -> ConfigDict:
    config = defaults("moco")
    config.model.dtype = "float32"
    config.model.head_norm = False
    config.data.batch_size = 256
    config.data.crops = ((2, 224, 0.2, 1.0),)
    config.augment.brightness = 0.4
    config.augment.contrast = 0.4
    config.augment.saturation = 0.4
    config.augment.hue = 0.1
    config.augment.order = ("jitter", "grey", "blur", "flip")
    config.augment.std = (0.229, 0.224, 0.225)
    config.optim.name = "sgd"
    config.optim.base_lr = 0.03
    config.optim.final_lr = 0.0
    config.optim.warmup_epochs = 0.0
    config.optim.schedule = "cosine_by_epoch"
    config.optim.weight_decay = 1e-4
    config.train.epochs = 800
    return config
