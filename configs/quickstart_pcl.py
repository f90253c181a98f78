"""PCL v2 on scikit-learn's bundled handwritten digits, minutes on a laptop's CPU.

Data and network are those of `quickstart.py`.

  python main.py --config=configs/quickstart_pcl.py --workdir=runs/quickstart_pcl

Not yet run to the end by us: no result to expect is known.
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def get_config() -> ConfigDict:
    config = defaults("pcl")
    config.data.name = "digits"
    config.data.test = "test"
    config.data.batch_size = 128
    config.data.crops = ((2, 32, 0.4, 1.0), (4, 16, 0.1, 0.4))
    config.data.eval_resize = config.data.eval_crop = 0
    config.augment.flip = 0.0
    config.augment.jitter = 0.0
    config.augment.grey = 0.0
    config.augment.blur = 0.0
    config.model.head_norm = False
    config.model.arch = "resnet18_thin"
    config.model.stem = "cifar"
    config.model.dtype = "float32"
    config.model.head_hidden = 128
    config.model.dim = 32
    config.model.prototypes = 160
    config.method.momentum = 0.99
    config.method.queue_length = 1024
    config.method.negative_prototypes = 32
    config.method.warmup_epochs = 5
    config.method.granularity = (1, 2)
    config.optim.name = "sgd"
    config.optim.base_lr = 0.3
    config.optim.final_lr = 0.0
    config.optim.warmup_epochs = 0.0
    config.optim.schedule = "cosine_by_epoch"
    config.optim.weight_decay = 1e-4
    config.train.epochs = 20
    config.train.log_every_steps = 11
    config.checkpoint.every_epochs = 5
    return config
