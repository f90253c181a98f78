from tiny import tiny_config, tiny_swav

from swav_jax.monitor.summary import summary
from swav_jax.run import build
from swav_jax.step import state_shapes


def test_a_run_in_a_few_lines():
    config = tiny_swav()
    config.mesh.model = 2
    run = build(config)
    # A 3x3 convolution to 16 channels with batch norm; a head of 16 with batch norm and 8; 12
    # prototypes of width 8.
    backbone, head, prototypes = 27 * 16 + 32, 16 * 16 + 16 + 32 + 16 * 8 + 8, 12 * 8
    total = backbone + head + prototypes
    params = 4 * (backbone + head + prototypes // 2)  # float32; two devices share the prototypes
    statistics = 4 * 2 * (16 + 16)
    extra = 4 * 2 * 32 * 8 // 4 + 4  # four devices share the queue; how full it is
    state = 2 * params + statistics + extra  # as many momenta as parameters
    assert summary(run, state_shapes(run)) == "\n".join(
        [
            "swav, one_conv in float32",
            f"  parameters  {total:,}: backbone {backbone}, head {head}, prototypes {prototypes}",
            "  data        1,500 images, each as 2 x 16 + 2 x 8 pixels",
            "  steps       93 of 16 images, 93 an epoch",
            "  devices     8 x cpu of 1 process, mesh data 4 x model 2",
            f"  state       {state / 1024:.3g} KiB on each device: params {params / 1024:.3g} KiB, "
            f"batch_stats {statistics} bytes, opt_state {params / 1024:.3g} KiB, "
            f"extra {extra} bytes",
        ]
    )


def test_a_bank_in_the_hosts_memory_is_counted_there():
    config = tiny_config("deepcluster_v2")
    config.data.crops = ((2, 16, 0.4, 1.0),)
    config.model.dim = 8
    config.mesh.bank_memory = "host"
    run = build(config)
    shapes = state_shapes(run)
    *_, on_device, on_host = summary(run, shapes).splitlines()
    bank = f"{4 * shapes.extra['bank'].size // 8 / 1024:.3g} KiB"  # float32, over eight devices
    assert "on each device: params" in on_device
    assert on_host == f"  state       {bank} in its host's memory: extra {bank}"
