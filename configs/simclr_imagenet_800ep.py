"""SimCLR on ImageNet: ResNet-50, 800 epochs, batch 4096, 2x224 crops.

Source: Chen et al., 2020, "A Simple Framework for Contrastive Learning of Visual Representations".
The blur's radius is that for crops of 224 pixels. Unlike there, images are normalised and the
head's last layer has no batch norm; activations are bfloat16.

  python main.py --config=configs/simclr_imagenet_800ep.py --workdir=runs/simclr_800ep \
    --config.data.data_dir=/data/tfds

Published: 128 TPU v3 cores, 1.5 hours for 100 epochs; linear evaluation 69.7 % top-1 in the
re-run of the VISSL library.
We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import simclr


def get_config() -> ConfigDict:
    return simclr(epochs=800)
