"""SwAV on ImageNet with a small batch and a queue: ResNet-50, 200 epochs, batch 256.

Source: Caron et al., 2020, and the settings published with it for batch 256: learning rate 0.6
without warm-up, prototypes frozen for the first epoch (5005 steps), a queue of 3840 embeddings from
epoch 15 on, batch norm synchronised over the whole batch.

  python main.py --config=configs/swav_imagenet_200ep_bs256.py --workdir=runs/swav_200ep_bs256 \
    --config.data.data_dir=/data/tfds

Published: 4 V100 GPUs for 7 days (52:10 an epoch); linear evaluation 72.7 % top-1.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import swav_with_queue


def get_config() -> ConfigDict:
    return swav_with_queue(epochs=200)
