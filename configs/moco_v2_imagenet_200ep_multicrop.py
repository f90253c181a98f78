"""MoCo-v2 with multi-crop on ImageNet: ResNet-50, 200 epochs, batch 256, 2x160 + 4x96 crops.

Source: the settings of MoCo-v2 (Chen et al., 2020) with the numbers and sizes of crops of the
multi-crop ablation in Caron et al., 2020, figure 3. That ablation has no MoCo: the scales are ours,
those of MoCo-v2 for the large crops and what lies below for the small ones, and every crop but the
key's is a query.

  python main.py --config=configs/moco_v2_imagenet_200ep_multicrop.py \
    --workdir=runs/moco_v2_multicrop --config.data.data_dir=/data/tfds

No result, hardware or time is published. Not run by us at full length.
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def get_config() -> ConfigDict:
    config = defaults("moco")
    config.model.dtype = "float32"
    config.model.head_norm = False
    config.data.batch_size = 256
    config.data.crops = ((2, 160, 0.2, 1.0), (4, 96, 0.05, 0.2))
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
    config.train.epochs = 200
    return config
