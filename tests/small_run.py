"""A small run that never was: its configuration, and metrics that are healthy unless overruled."""

import math

from swav_jax import config as config_lib

LN_K = math.log(60)
HEALTHY = {
    "loss": 3.2,
    "lr": 1.0,
    "gradient_norm": 1.0,
    "code_entropy": 1.5,
    "largest_code": 0.4,
    "prototypes_used": 0.95,
    "embedding_std": 0.7,
    "marginal_residual": 0.2,
    "images_per_second": 300.0,
    "data_wait_share": 0.05,
}


def small(**settings):
    """The configuration that the recorded runs had: SwAV on digits, LARC, 60 prototypes."""
    config = config_lib.defaults("swav")
    config.data.name = "digits"
    config.data.batch_size, config.train.epochs = 128, 20
    config.data.crops = ((2, 32, 0.4, 1.0), (4, 16, 0.1, 0.4))
    config.model.arch, config.model.stem, config.model.dtype = "resnet18_thin", "cifar", "float32"
    config.model.head_hidden, config.model.dim, config.model.prototypes = 128, 32, 60
    config.method.epsilon, config.method.freeze_prototypes_steps = 0.02, 11
    config.optim.base_lr, config.optim.final_lr, config.optim.warmup_epochs = 2.0, 0.002, 1.0
    config.update_from_flattened_dict(settings)
    return config


def history(lines=20, every=11, **metrics):
    """A line every 11 steps; a metric is a number, or a function of the step."""
    metrics = HEALTHY | metrics
    return [
        {"step": s} | {name: v(s) if callable(v) else v for name, v in metrics.items()}
        for s in range(every, (lines + 1) * every, every)
    ]
