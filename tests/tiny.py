"""The smallest run that is still a run: digits, two crop sizes, a network of one convolution."""

from functools import partial

import jax
import jaxlib
from ml_collections import ConfigDict

from swav_jax.config import defaults
from swav_jax.models import backbones, resnet
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.run import Run
from swav_jax.step import compiled_step, draw_state, state_shapes

# One convolution, batch norm and the mean over all places: a whole run compiles in two seconds.
ARCH = "one_conv"
for archs in (resnet.ARCHS, backbones.ARCHS):
    archs[ARCH] = {"block": resnet.BasicBlock, "stage_sizes": (0,), "width": 16}


def compile_fast() -> None:
    """For programs that run for milliseconds: most of the tests' time would go into compiling them.

    What a process has compiled is in the cache for all others, small programs too.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if jaxlib.__version__.startswith("0.10."):  # later ones have other options
        # Private, since the public XLA_FLAGS are the same for every test of a process.
        from jax._src import compiler

        compiler.get_compile_options = partial(_with_options, compiler.get_compile_options)


# XLA:CPU's older emitters compile a training step in a fifth of the time.
OLD_EMITTERS = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
# In float64 its convolutions are a naive loop, but for those of YNNPACK, ten times faster.
FLOAT64 = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"}


def _with_options(get_compile_options, *args, backend, env_options_overrides, **others):
    """JAX's options of a program; for a CPU also those that make the tests faster.

    Float64 has its own even in tests that compile as users do: it is there to have few rounding
    errors, and nobody trains in it for speed.
    """
    options = {}
    if backend.platform == "cpu":
        if jax.config.values["jax_disable_most_optimizations"]:
            options |= OLD_EMITTERS
        if jax.config.jax_enable_x64:
            options |= FLOAT64
    options |= env_options_overrides or {}
    return get_compile_options(*args, backend=backend, env_options_overrides=options, **others)


def encoder(dim: int = 8, bn_groups: int = 1) -> Encoder:
    """The network of `tiny_config`, with 16 features."""
    backbone = backbones.backbone(ARCH, stem="strided", bn_groups=bn_groups)
    return Encoder(backbone, ProjectionHead(16, dim, bn_groups=bn_groups))


def tiny_config(method: str = "swav") -> ConfigDict:
    """One epoch of 93 steps, each logged."""
    config = defaults(method)
    config.data.name = "digits"
    config.data.test = ""
    config.data.batch_size = 16
    config.data.crops = ((2, 16, 0.4, 1.0), (2, 8, 0.1, 0.4))
    config.data.eval_resize = config.data.eval_crop = 16
    config.augment.blur = config.augment.jitter = config.augment.grey = 0.0
    config.model.arch, config.model.stem = ARCH, "strided"
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
    config.eval.quality_images = 0
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
