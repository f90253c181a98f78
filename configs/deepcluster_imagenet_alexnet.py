"""DeepCluster on ImageNet: AlexNet with a Sobel filter, 200 epochs, batch 256.

Source: Caron et al., 2018, and the settings published with its code: constant learning rate 0.05,
10,000 clusters made anew each epoch. The paper trained for 500 epochs. What differs from that code
is in `swav_jax/methods/deepcluster.py`.

  python main.py --config=configs/deepcluster_imagenet_alexnet.py \
    --workdir=runs/deepcluster_alexnet --config.data.data_dir=/data/tfds

Published: linear evaluation 37.9 % top-1, as VISSL lists it; 12 days on a P100 GPU for the paper's
500 epochs.
Not run by us at full length.
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def get_config() -> ConfigDict:
    config = defaults("deepcluster")
    config.data.batch_size = 256
    config.data.crops = ((1, 224, 0.08, 1.0),)
    config.augment.jitter = 0.0
    config.augment.grey = 0.0
    config.augment.blur = 0.0
    config.augment.std = (0.229, 0.224, 0.225)
    config.model.arch = "alexnet_sobel"
    config.model.dtype = "float32"
    config.model.prototypes = 10000
    config.optim.name = "sgd"
    config.optim.base_lr = 0.05
    config.optim.warmup_epochs = 0.0
    config.optim.schedule = "drops"
    config.optim.weight_decay = 1e-5
    config.train.epochs = 200
    return config
