import pytest
from tiny import tiny_config


@pytest.fixture
def short_run():
    """Makes configurations of the given method, with 11 steps an epoch."""

    def config(method):
        config = tiny_config(method)
        config.data.batch_size = 128
        config.optim.name = "sgd"
        config.optim.base_lr = 0.1
        config.optim.weight_decay = 1e-4
        return config

    return config
