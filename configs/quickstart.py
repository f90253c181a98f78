"""The quickstart: SwAV on scikit-learn's bundled handwritten digits, minutes on a laptop's CPU.

  python main.py --config=configs/quickstart.py --workdir=runs/quickstart

Expected: TODO
"""

from ml_collections import ConfigDict

from configs.shared.digits import digits


def get_config() -> ConfigDict:
    config = digits("swav")
    config.method.epsilon = 0.005  # 0.02 lets the embedding shrink before the codes take shape
    config.method.freeze_prototypes_steps = 0
    return config
