"""SwAV on CIFAR-10 from TensorFlow Datasets: ResNet-18 with a 3x3 stem, for one GPU.

Source: ours. Images and jitter as in `swav_cifar10_small.py`, with the full network, all 50,000
images and LARC.

  python main.py --config=configs/swav_cifar10.py --workdir=runs/cifar10 \
    --config.data.data_dir=/data/tfds

`--config.data.download` fetches the data set. Time and result are unknown: we have not run this at
full length. Others report 89.2 % by a linear classifier after 1000 epochs (solo-learn).
"""

from ml_collections import ConfigDict

from configs.shared.cifar10_small import cifar10_small


def get_config() -> ConfigDict:
    config = cifar10_small("swav")
    config.data.train = "train"
    config.data.test = "test"
    config.data.batch_size = 512
    config.data.crops = ((2, 32, 0.3, 1.0), (4, 20, 0.1, 0.3))
    config.model.arch = "resnet18"
    config.model.dtype = "bfloat16"
    config.model.head_hidden = 2048
    config.model.prototypes = 300
    config.method.epsilon = 0.015
    config.method.freeze_prototypes_epochs = 1.0
    config.method.freeze_prototypes_steps = None
    config.optim.name = "larc"
    config.optim.base_lr = 4.0
    config.optim.final_lr = 0.004
    config.optim.start_lr = 0.3
    config.optim.warmup_epochs = 10.0
    config.optim.weight_decay = 1e-6
    config.train.epochs = 200
    config.eval.knn_every_epochs = 10
    config.checkpoint.every_epochs = 5
    return config
