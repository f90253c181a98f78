"""SwAV on ImageNet with a network four times as wide: ResNet-50 w4, 400 epochs.

Source: Caron et al., 2020, and the settings published with it: batch 2560 (40 images a GPU, batch
norm synchronised over groups of 320), and a queue of 2560 embeddings from the start.

  python main.py --config=configs/swav_imagenet_rn50w4_400ep.py --workdir=runs/swav_rn50w4 \
    --config.data.data_dir=/data/tfds

Published: 64 V100 GPUs; linear evaluation 77.9 % top-1. The time is not published.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import swav


def get_config() -> ConfigDict:
    config = swav(epochs=400, crops=((2, 224, 0.08, 1.0), (4, 96, 0.08, 0.14)))
    config.data.batch_size = 2560
    config.model.arch = "resnet50w4"
    config.model.head_hidden = 8192
    config.model.bn_groups = 2560 // 320
    config.method.queue_length = 2560
    config.method.queue_start_epoch = 0
    return config
