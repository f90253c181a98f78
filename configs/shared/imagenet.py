"""What the ImageNet configs share: the published settings of each method, one function for each.

Values that a function leaves alone are the defaults: those of SwAV with batches of 4096.
"""

import math

from ml_collections import ConfigDict

from swav_jax.config import defaults, of_method

Crops = tuple[tuple[int, int, float, float], ...]  # (number, pixels, scale from, to)

IMAGES = 1_281_167
MULTI_CROP = ((2, 224, 0.14, 1.0), (6, 96, 0.05, 0.14))
ABLATION_CROPS = ((2, 160, 0.08, 1.0), (4, 96, 0.05, 0.14))  # Caron et al., 2020, figure 3
TWO_CROPS = ((2, 224, 0.08, 1.0),)
MOCO_CROPS = ((2, 224, 0.2, 1.0),)

TORCH_STD = (0.229, 0.224, 0.225)  # SwAV's own code has 0.228 for red


def swav(epochs: int, crops: Crops = MULTI_CROP) -> ConfigDict:
    """SwAV with batches of 4096 (Caron et al., 2020), batch norm over 8 of the 64 GPUs."""
    config = defaults("swav")
    config.data.crops = crops
    config.model.bn_groups = 4096 // 512
    config.train.epochs = epochs
    return config


def swav_with_queue(epochs: int) -> ConfigDict:
    """SwAV with batches of 256 (Caron et al., 2020): a queue, no warm-up, batch norm over all."""
    config = swav(epochs)
    config.data.batch_size = 256
    config.model.bn_groups = 1
    config.method.freeze_prototypes_steps = math.ceil(IMAGES / 256)  # an epoch
    config.method.queue_length = 15 * 256
    config.method.queue_start_epoch = 15
    config.optim.base_lr = 0.6
    config.optim.final_lr = 0.6 / 1000
    config.optim.warmup_epochs = 0.0
    return config


def deepcluster_v2(epochs: int, crops: Crops = MULTI_CROP) -> ConfigDict:
    """DeepCluster-v2 (Caron et al., 2020): as SwAV, in float32, with three heads of clusters."""
    config = of_method(swav(epochs, crops), "deepcluster_v2")
    config.model.dtype = "float32"
    config.model.prototype_heads = 3
    return config


def simclr(epochs: int, crops: Crops = TWO_CROPS) -> ConfigDict:
    """SimCLR with batches of 4096 (Chen et al., 2020)."""
    config = defaults("simclr")
    config.data.crops = crops
    config.augment.blur_reference_size = 224
    config.optim.name = "lars"
    config.optim.base_lr = 0.3 * config.data.batch_size / 256
    config.optim.final_lr = config.optim.start_lr = 0.0
    config.optim.warmup_epochs = 10.0
    config.optim.weight_decay = 1e-6
    config.train.epochs = epochs
    return config


def momentum_contrast(method: str, epochs: int) -> ConfigDict:
    """What MoCo and PCL share in both versions: batches of 256, two crops, SGD without warm-up."""
    config = defaults(method)
    config.data.batch_size = 256
    config.data.crops = MOCO_CROPS
    config.augment.brightness = config.augment.contrast = config.augment.saturation = 0.4
    config.augment.std = TORCH_STD
    config.model.dtype = "float32"
    config.optim.name = "sgd"
    config.optim.base_lr = 0.03
    config.optim.final_lr = 0.0
    config.optim.warmup_epochs = 0.0
    config.optim.weight_decay = 1e-4
    config.train.epochs = epochs
    return config


def moco_v2(epochs: int) -> ConfigDict:
    """MoCo-v2 (Chen et al., 2020): a head of two layers, jitter and blur, cosine by epoch."""
    config = momentum_contrast("moco", epochs)
    config.augment.hue = 0.1
    config.augment.order = ("jitter", "grey", "blur", "flip")
    config.model.head_norm = False
    config.optim.schedule = "cosine_by_epoch"
    return config


def deepcluster(arch: str) -> ConfigDict:
    """DeepCluster (Caron et al., 2018): one crop, 10,000 clusters, a constant learning rate."""
    config = defaults("deepcluster")
    config.data.batch_size = 256
    config.data.crops = ((1, 224, 0.08, 1.0),)
    config.augment.jitter = config.augment.grey = config.augment.blur = 0.0
    config.augment.std = TORCH_STD
    config.model.arch = arch
    config.model.dtype = "float32"
    config.model.prototypes = 10_000
    config.optim.name = "sgd"
    config.optim.base_lr = 0.05
    config.optim.warmup_epochs = 0.0
    config.optim.schedule = "drops"
    config.optim.weight_decay = 1e-5
    config.train.epochs = 200
    return config
