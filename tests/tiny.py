"""The smallest run that is still a run: digits, a network of 8 to 64 channels, two crop sizes."""

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from swav_jax.config import defaults
from swav_jax.models.batch_norm import BatchNorm
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.run import Run
from swav_jax.step import compiled_step, draw_state, state_shapes


class LinearBackbone(nn.Module):
    """A linear layer on 4x4 blurred pixels, with batch norm."""

    dtype: str = "float32"
    bn_groups: int = 1

    @nn.compact
    def __call__(self, x, train):
        x, (batch, size) = x.astype(self.dtype), x.shape[:2]
        pixels = x.reshape(batch, 4, size // 4, 4, size // 4, 3).mean((2, 4))
        x = nn.Dense(16, name="linear", param_dtype=x.dtype)(pixels.reshape(batch, -1))
        norm = BatchNorm(self.bn_groups, dtype=x.dtype, param_dtype=x.dtype, name="bn1")
        return nn.relu(norm(x, not train))


def encoder(dim: int = 8, dtype: str = "float32", bn_groups: int = 1) -> Encoder:
    """A network that compiles in a second."""
    exact = jnp.dtype(dtype)
    head = ProjectionHead(16, dim, dtype=exact, param_dtype=exact, bn_groups=bn_groups)
    return Encoder(LinearBackbone(dtype, bn_groups), head)


def tiny_config(method: str = "swav") -> ConfigDict:
    """Six steps an epoch, two epochs."""
    config = defaults(method)
    config.data.name = "digits"
    config.data.test = ""
    config.data.batch_size = 16
    config.data.crops = ((2, 16, 0.4, 1.0), (2, 8, 0.1, 0.4))
    config.data.eval_resize = config.data.eval_crop = 16
    config.augment.blur = config.augment.jitter = config.augment.grey = 0.0
    config.model.arch = "resnet10_tiny"
    config.model.stem = "cifar"
    config.model.dtype = "float32"
    config.model.head_hidden = 16
    config.model.dim = 8
    config.model.prototypes = 12
    config.optim.base_lr = 1.0
    config.optim.final_lr = 0.001
    config.optim.warmup_epochs = 0.0
    config.train.epochs = 1
    config.train.log_every_steps = 1
    config.checkpoint.every_epochs = 0
    return config


def tiny_swav() -> ConfigDict:
    """SwAV with a queue that fills and is used within a few steps."""
    config = tiny_config("swav")
    config.method.freeze_prototypes_steps = 2
    config.method.queue_length = 32
    config.method.queue_start_epoch = 0
    return config


def start(run: Run):
    """The state before the first step, and the compiled step."""
    shapes = state_shapes(run)
    return draw_state(run, shapes), compiled_step(run, shapes)
