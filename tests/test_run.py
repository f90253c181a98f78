from contextlib import nullcontext

import pytest
from tiny import tiny_config, tiny_swav

from swav_jax.config import ConfigError
from swav_jax.run import build


@pytest.mark.parametrize(
    ("crop", "eval_resize", "eval_crop", "complaint"),
    [
        (16, 16, 16, "alexnet_sobel: images of 16 pixels are too small for this network: try 224"),
        (224, 64, 64, "alexnet_sobel takes images of one size, .* have 64, 224 pixels"),
        (224, 64, 0, "alexnet_sobel takes images of one size, .* have 64, 224 pixels"),
        (224, 0, 64, "alexnet_sobel takes images of one size, .* have 64, 224 pixels"),
        (224, 224, 0, None),
        (224, 0, 0, None),
    ],
)
def test_sizes_that_a_network_cannot_take_are_refused(crop, eval_resize, eval_crop, complaint):
    config = tiny_config("deepcluster")
    config.model.arch = "alexnet_sobel"
    config.data.crops = ((1, crop, 0.4, 1.0),)
    config.data.eval_resize, config.data.eval_crop = eval_resize, eval_crop
    with pytest.raises(ConfigError, match=complaint) if complaint else nullcontext():
        build(config)


def test_methods_receive_durations_in_steps():
    config = tiny_swav()
    config.method.freeze_prototypes_epochs, config.method.freeze_prototypes_steps = 0.5, None
    run = build(config)
    assert run.sizes.steps_per_epoch == 93
    assert run.method.freeze_prototypes_steps == run.config.method.freeze_prototypes_steps == 46
