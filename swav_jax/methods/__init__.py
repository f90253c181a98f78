"""The methods by name: what `config.method.name` chooses from."""

from swav_jax.methods.contract import Method
from swav_jax.methods.deepcluster import DeepCluster
from swav_jax.methods.deepcluster_v2 import DeepClusterV2
from swav_jax.methods.moco import MoCo
from swav_jax.methods.pcl import PCL
from swav_jax.methods.sela_v2 import SeLaV2
from swav_jax.methods.simclr import SimCLR
from swav_jax.methods.supervised import Supervised
from swav_jax.methods.swav import SwAV

METHODS: dict[str, type[Method]] = {
    "swav": SwAV,
    "deepcluster_v2": DeepClusterV2,
    "sela_v2": SeLaV2,
    "deepcluster": DeepCluster,
    "pcl": PCL,
    "moco": MoCo,
    "simclr": SimCLR,
    "supervised": Supervised,
}
