"""PCL v2 on scikit-learn's bundled handwritten digits, minutes on a laptop's CPU.

Data as in `quickstart.py`, and a network of half the width.

  python main.py --config=configs/quickstart_pcl.py --workdir=runs/quickstart_pcl

Not yet run to the end by us: no result to expect is known.
"""

from ml_collections import ConfigDict

from configs.shared.digits import digits


def get_config() -> ConfigDict:
    config = digits("pcl")
    config.model.head_norm = False
    config.model.prototypes = 64
    config.method.momentum = 0.99
    config.method.queue_length = 512
    config.method.negative_prototypes = 32
    config.method.warmup_epochs = 3
    config.method.granularity = (1, 2)
    return config
