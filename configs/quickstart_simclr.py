"""SimCLR on scikit-learn's bundled handwritten digits, minutes on a laptop's CPU.

Data as in `quickstart.py`, and a network of half the width.

  python main.py --config=configs/quickstart_simclr.py --workdir=runs/quickstart_simclr

Not yet run to the end by us: no result to expect is known.
"""

from ml_collections import ConfigDict

from configs.shared.digits import digits


def get_config() -> ConfigDict:
    config = digits("simclr")
    config.method.temperature = 0.2
    return config
