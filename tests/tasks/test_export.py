from swav_jax.tasks.export import network_of
from swav_jax.trained import open_trained, settings_of


def test_one_mean_for_all_channels_is_written_for_each(workdir):
    config = settings_of(workdir)
    config.augment.mean, config.augment.std = (0.5,), (0.1, 0.2, 0.3)
    preprocessing = network_of(open_trained(config, workdir)).preprocessing
    assert preprocessing["mean"] == [0.5, 0.5, 0.5]
    assert preprocessing["std"] == [0.1, 0.2, 0.3]
