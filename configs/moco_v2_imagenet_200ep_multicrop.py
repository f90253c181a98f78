"""MoCo-v2 with multi-crop on ImageNet: ResNet-50, 200 epochs, batch 256, 2x160 + 4x96 crops.

Source: the settings of MoCo-v2 (Chen et al., 2020) with the numbers and sizes of crops of the
multi-crop ablation in Caron et al., 2020, figure 3. That ablation has no MoCo: the scales are ours,
those of MoCo-v2 for the large crops and what lies below for the small ones, and every crop but the
key's is a query.

  python main.py --config=configs/moco_v2_imagenet_200ep_multicrop.py \
    --workdir=runs/moco_v2_multicrop --config.data.data_dir=/data/tfds

No result, hardware or time is published. We have not run this at full length.
"""

from ml_collections import ConfigDict

from configs.shared.imagenet import moco_v2


def get_config() -> ConfigDict:
    config = moco_v2(epochs=200)
    config.data.crops = ((2, 160, 0.2, 1.0), (4, 96, 0.05, 0.2))
    return config
