"""PCL v2 on ImageNet: ResNet-50, 200 epochs, batch 256, 2x224 crops.

Source: Li et al., 2021, and the settings published with it for version 2: head of two layers,
augmentation of MoCo-v2, cosine schedule by epoch. Clusters of 25,000, 50,000 and 100,000.

  python main.py --config=configs/pcl_v2_imagenet_200ep.py --workdir=runs/pcl_v2 \
    --config.data.data_dir=/data/tfds

Published: linear evaluation 67.6 % top-1; hardware and time are not.
Not run by us at full length.
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def get_config() -> ConfigDict:
    config = defaults("pcl")
    config.data.batch_size = 256
    config.data.crops = ((2, 224, 0.2, 1.0),)
    config.augment.brightness = 0.4
    config.augment.contrast = 0.4
    config.augment.saturation = 0.4
    config.augment.hue = 0.1
    config.augment.order = ("jitter", "grey", "blur", "flip")
    config.augment.std = (0.229, 0.224, 0.225)
    config.model.head_norm = False
    config.model.dtype = "float32"
    config.model.prototypes = 25000
    config.optim.name = "sgd"
    config.optim.base_lr = 0.03
    config.optim.final_lr = 0.0
    config.optim.warmup_epochs = 0.0
    config.optim.schedule = "cosine_by_epoch"
    config.optim.weight_decay = 1e-4
    config.train.epochs = 200
    return config
