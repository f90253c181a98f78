"""What runs on small photographs share: 10,000 CIFAR-10 images, a thin ResNet-18, plain SGD.

Large crops of 24 pixels show objects at the size that whole images of 32 pixels do. Jitter has half
of SwAV's strength, and there is no blur: images of 32 pixels have little to lose.
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def cifar10_small(method: str) -> ConfigDict:
    """The images, a network of 16 to 128 channels and SGD for a method."""
    config = defaults(method)
    config.data.name = "tfds:cifar10"
    config.data.train = "train[:20%]"
    config.data.test = "test[:20%]"
    config.data.batch_size = 128
    config.data.crops = ((2, 24, 0.3, 1.0), (2, 16, 0.15, 0.5))
    config.data.eval_resize = config.data.eval_crop = 32
    for strength in ("brightness", "contrast", "saturation", "hue"):
        config.augment[strength] /= 2
    config.augment.blur = 0.0
    config.model.arch = "resnet18_thin"
    config.model.stem = "cifar"
    config.model.dtype = "float32"
    config.model.head_hidden = 256
    config.model.prototypes = 100
    config.optim.name = "sgd"
    config.optim.base_lr = 0.06
    config.optim.final_lr = 0.00006
    config.optim.start_lr = 0.006
    config.optim.warmup_epochs = 1.0
    config.optim.weight_decay = 1e-4
    config.train.log_every_epochs = 1 / 3
    config.train.log_every_steps = None
    config.checkpoint.every_epochs = 2
    return config
