"""SimCLR with multi-crop on ImageNet: ResNet-50, 400 epochs, batch 4096, 2x160 + 4x96 crops.

Source: the ablation of multi-crop in Caron et al., 2020, figure 3, whose crops these are; the other
settings are those of SimCLR (Chen et al., 2020). Its twin without small crops is
`simclr_imagenet_400ep.py`.

  python main.py --config=configs/simclr_imagenet_400ep_multicrop.py \
    --workdir=runs/simclr_multicrop --config.data.data_dir=/data/tfds

Hardware, time and result of that run are not published. We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import ABLATION_CROPS, simclr


def get_config() -> ConfigDict:
    return simclr(epochs=400, crops=ABLATION_CROPS)
