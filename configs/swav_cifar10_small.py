"""SwAV on 10,000 CIFAR-10 images in folders, an hour on a laptop's CPU.

`data.data_dir` holds `train/<class>/*.jpg` and `test/<class>/*.jpg`; any images of 32 pixels do.

  python main.py --config=configs/swav_cifar10_small.py --workdir=runs/cifar10_small \
    --config.data.data_dir=../shared/data/cifar10_small

Not yet run to the end by us: no result to expect is known.
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def get_config() -> ConfigDict:
    config = defaults("swav")
    config.data.name = "folder"
    config.data.data_dir = "../shared/data/cifar10_small"
    config.data.test = "test"
    config.data.batch_size = 128
    config.data.crops = ((2, 24, 0.3, 1.0), (2, 16, 0.15, 0.5))
    config.data.eval_resize = config.data.eval_crop = 0
    for strength in ("brightness", "contrast", "saturation", "hue"):
        config.augment[strength] /= 2
    config.augment.blur = 0.0
    config.model.arch = "resnet18_thin"
    config.model.stem = "cifar"
    config.model.dtype = "float32"
    config.model.head_hidden = 256
    config.model.prototypes = 100
    config.method.epsilon = 0.01
    config.method.freeze_prototypes_steps = 0
    config.optim.name = "sgd"
    config.optim.base_lr = 0.06
    config.optim.final_lr = 0.00006
    config.optim.start_lr = 0.006
    config.optim.warmup_epochs = 1.0
    config.optim.weight_decay = 1e-4
    config.train.epochs = 28
    config.train.log_every_steps = 26
    config.eval.knn_every_epochs = 4
    config.checkpoint.every_epochs = 2
    return config
