"""PCL v1 on scikit-learn's bundled handwritten digits, minutes on a laptop's CPU.

Data and width as in `quickstart.py`. What makes version 1 is as in
`pcl_v1_imagenet_200ep.py`: a linear head, no blur, and a learning rate that drops.

  python main.py --config=configs/quickstart_pcl_v1.py --workdir=runs/quickstart_pcl_v1

Expected: k-NN 93.9 % on two cores, 90.6 % on one, where roundings differ (random network 91.2 %);
3:36 minutes on 2 cores, compilation included. With the momentum of `quickstart_pcl.py`, 0.9, the
linear head, which has no batch norm, collapses (72.4 %; with a rate of 0.03, 69.4 %).
"""

from ml_collections import ConfigDict

from configs.quickstart_pcl import get_config as version_2


def get_config() -> ConfigDict:
    config = version_2()
    config.augment.blur = 0.0
    config.method.momentum = 0.99
    config.model.head_hidden = 0
    config.optim.schedule = "drops"
    config.optim.drop_epochs = (8, 10)
    config.train.epochs = 14
    return config
