"""DeepCluster on scikit-learn's bundled handwritten digits, minutes on a laptop's CPU.

Data and network are those of `quickstart.py`.

  python main.py --config=configs/quickstart_deepcluster.py --workdir=runs/quickstart_deepcluster

Expected: TODO
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def get_config() -> ConfigDict:
    config = defaults("deepcluster")
    config.data.name = "digits"
    config.data.test = "test"
    config.data.batch_size = 128
    config.data.crops = ((1, 32, 0.4, 1.0),)
    config.data.eval_resize = config.data.eval_crop = 0
    config.augment.flip = 0.0
    config.augment.jitter = 0.0
    config.augment.grey = 0.0
    config.augment.blur = 0.0
    config.model.arch = "resnet18_thin"
    config.model.stem = "cifar"
    config.model.dtype = "float32"
    config.model.prototypes = 60
    config.optim.name = "sgd"
    config.optim.base_lr = 0.05
    config.optim.warmup_epochs = 0.0
    config.optim.schedule = "drops"
    config.optim.weight_decay = 1e-5
    config.train.epochs = 30
    config.train.log_every_steps = 11
    config.checkpoint.every_epochs = 5
    return config
