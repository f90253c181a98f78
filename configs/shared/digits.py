"""What the quickstarts share: scikit-learn's handwritten digits and a network for them.

1,500 digits of 8x8 pixels enlarged to 32x32 to train on, 297 to test on; ResNet-18 with a 3x3 stem
and 8 to 64 channels. Digits are not flipped, and their crops keep most of the digit: a small part
of a stroke could be of any. Brightness and contrast vary strongly. Unchanged, they distinguish one
image's crops from another's most easily, and a network that learns this ignores shapes: its
features have rank 2, and k-NN falls from 92 to 60 %.
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def digits(method: str) -> ConfigDict:
    """The digits, a network and plain SGD for a method."""
    config = defaults(method)
    config.data.name = "digits"
    config.data.test = "test"
    config.data.batch_size = 32
    config.data.crops = ((2, 32, 0.8, 1.0), (4, 16, 0.6, 1.0))
    config.data.eval_resize = config.data.eval_crop = 0
    config.augment.flip = config.augment.grey = 0.0
    config.augment.jitter = 1.0
    config.augment.brightness = config.augment.contrast = 0.6
    config.augment.saturation = config.augment.hue = 0.0
    config.model.arch = "resnet18_tiny"
    config.model.stem = "cifar"
    config.model.dtype = "float32"
    config.model.head_hidden = 256
    config.model.prototypes = 30
    config.optim.name = "sgd"
    config.optim.base_lr = 0.03
    config.optim.final_lr = 0.00003
    config.optim.start_lr = 0.003
    config.optim.warmup_epochs = 1.0
    config.train.epochs = 8
    config.train.log_every_epochs = 1 / 2
    config.train.log_every_steps = None
    config.eval.knn_every_epochs = 2
    config.eval.min_scale = 0.8
    config.checkpoint.every_epochs = 4
    return config
