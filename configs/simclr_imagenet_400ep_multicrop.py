"""SimCLR with multi-crop on ImageNet: ResNet-50, 400 epochs, batch 4096, 2x160 + 4x96 crops.

Source: the ablation of multi-crop in Caron et al., 2020, figure 3, whose crops these are; the other
settings are those of SimCLR (Chen et al., 2020). Its twin without small crops is
`simclr_imagenet_400ep.py`.

  python main.py --config=configs/simclr_imagenet_400ep_multicrop.py \
    --workdir=runs/simclr_multicrop --config.data.data_dir=/data/tfds

Hardware, time and result of that run are not published. Not run by us at full length.
"""

from ml_collections import ConfigDict

from swav_jax.config import defaults


def get_config() -> ConfigDict:
    config = defaults("simclr")
    config.data.crops = ((2, 160, 0.08, 1.0), (4, 96, 0.05, 0.14))
    config.augment.blur_reference_size = 224
    config.optim.name = "lars"
    config.optim.base_lr = 4.8  # 0.3 x batch / 256
    config.optim.final_lr = 0.0
    config.optim.start_lr = 0.0
    config.optim.warmup_epochs = 10.0
    config.optim.weight_decay = 1e-6
    config.train.epochs = 400
    return config
