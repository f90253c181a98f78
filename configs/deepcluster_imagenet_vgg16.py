"""DeepCluster on ImageNet: VGG16 with a Sobel filter, 200 epochs, batch 256.

Source: Caron et al., 2018, and the settings published with its code: constant learning rate 0.05,
10,000 clusters made anew each epoch. The paper trained for 500 epochs. What differs from that code
is in `swav_jax/methods/deepcluster.py`.

  python main.py --config=configs/deepcluster_imagenet_vgg16.py \
    --workdir=runs/deepcluster_vgg16 --config.data.data_dir=/data/tfds

Published: no ImageNet linear evaluation, hardware or time that we know of.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import deepcluster


def get_config() -> ConfigDict:
    return deepcluster("vgg16_sobel")
