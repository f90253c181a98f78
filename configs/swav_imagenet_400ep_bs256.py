"""SwAV on ImageNet with a small batch and a queue: ResNet-50, 400 epochs, batch 256.

Source: Caron et al., 2020, and the settings published with it for batch 256: learning rate 0.6
without warm-up, prototypes frozen for the first epoch (5005 steps), a queue of 3840 embeddings from
epoch 15 on, batch norm synchronised over the whole batch.

  python main.py --config=configs/swav_imagenet_400ep_bs256.py --workdir=runs/swav_400ep_bs256 \
    --config.data.data_dir=/data/tfds

Published: 4 V100 GPUs for 15 days (52:10 an epoch); linear evaluation 74.3 % top-1.
Not run by us at full length.
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def get_config() -> ConfigDict:
    config = defaults("swav")
    config.train.epochs = 400
    config.data.batch_size = 256
    config.optim.base_lr = 0.6
    config.optim.final_lr = 0.0006
    config.optim.warmup_epochs = 0.0
    config.method.freeze_prototypes_steps = 5005
    config.method.queue_length = 3840
    config.method.queue_start_epoch = 15
    return config
