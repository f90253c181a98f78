"""MoCo-v2 on scikit-learn's bundled handwritten digits, minutes on a laptop's CPU.

Data as in `quickstart.py`, and a network of half the width.

  python main.py --config=configs/quickstart_moco.py --workdir=runs/quickstart_moco

Not yet run to the end by us: no result to expect is known.
"""

from ml_collections import ConfigDict

from configs.shared.digits import digits


def get_config() -> ConfigDict:
    config = digits("moco")
    config.model.head_norm = False
    config.method.momentum = 0.99
    config.method.queue_length = 512
    return config
