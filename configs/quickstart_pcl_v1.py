"""PCL v1 on scikit-learn's bundled handwritten digits, minutes on a laptop's CPU.

Data as in `quickstart.py`, half the width. What makes version 1 is as in
`pcl_v1_imagenet_200ep.py`: a linear head, no blur, and a learning rate that drops.

  python main.py --config=configs/quickstart_pcl_v1.py --workdir=runs/quickstart_pcl_v1

Expected: little. In so few steps the linear head, which has no batch norm, collapses at this rate,
as the doctor says: k-NN 72.4 % (random network 91.2 %). 5:12 minutes on one core of a busy machine.
"""

from ml_collections import ConfigDict

from configs.quickstart_pcl import get_config as version_2


def get_config() -> ConfigDict:
    config = version_2()
    config.augment.blur = 0.0
    config.model.head_hidden = 0
    config.optim.schedule = "drops"
    config.optim.drop_epochs = (8, 10)
    return config
