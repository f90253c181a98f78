import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax.models.resnet import ARCHS, BasicBlock, ResNet, backbone


def _init(net, size=32):
    return jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, size, size, 3)), False))


# torchvision's counts without the classifier; the wide ones: RN50w2 93.9M, RN50w4 375M (SwAV).
@pytest.mark.parametrize(
    ("arch", "millions"),
    [
        ("resnet18", 11.177),
        ("resnet34", 21.285),
        ("resnet50", 23.508),
        ("resnet101", 42.500),
        ("resnet50w2", 93.907),
        ("resnet50w4", 375.4),
        ("resnet50w5", 586.5),
        ("resnet18_thin", 0.7021),
    ],
)
def test_parameter_counts(arch, millions):
    count = sum(leaf.size for leaf in jax.tree.leaves(_init(backbone(arch))["params"]))
    np.testing.assert_allclose(count / 1e6, millions, rtol=5e-4)


def test_names_mirror_torchvision():
    params = _init(backbone("resnet50"))["params"]
    assert set(params["layer1_0"]) == {
        *("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "downsample_0", "downsample_1")
    }
    assert set(params["layer4_2"]) == {"conv1", "bn1", "conv2", "bn2", "conv3", "bn3"}
    assert params["conv1"]["kernel"].shape == (7, 7, 3, 64)


@pytest.mark.parametrize(
    ("stem", "sides"),
    [
        ("imagenet", (17, 9, 5, 3)),
        ("cifar", (66, 33, 17, 9)),
        ("strided", (33, 17, 9, 5)),
    ],
)
def test_stages_have_the_strides_of_a_resnet(stem, sides):
    net = backbone("resnet14", stem=stem)
    x = jnp.zeros((2, 66, 66, 3))
    maps = jax.eval_shape(
        lambda: net.init_with_output(jax.random.key(0), x, False, method="stages")[0]
    )
    assert {name: leaf.shape for name, leaf in maps.items()} == {
        f"c{i + 2}": (2, side, side, 256 * 2**i) for i, side in enumerate(sides)
    }


def test_features_are_the_pooled_last_stage():
    net = ResNet(BasicBlock, (1, 1, 1, 1), width=8, stem="cifar")
    x = np.random.default_rng(0).normal(size=(2, 20, 20, 3)).astype(np.float32)
    variables = jax.jit(lambda: net.init(jax.random.key(0), x, False))()
    features = jax.jit(lambda: net.apply(variables, x, False))()
    assert features.shape == (2, 64)
    last = jax.jit(lambda: net.apply(variables, x, False, method="stages")["c5"])()
    np.testing.assert_allclose(features, np.asarray(last).mean((1, 2)), rtol=1e-5)


def test_bfloat16_keeps_float32_parameters_and_features():
    sizes = {"stage_sizes": (1, 1), "width": 16, "stem": "cifar"}
    net = ResNet(BasicBlock, **sizes, dtype=jnp.bfloat16)
    x = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
    variables = jax.jit(lambda: net.init(jax.random.key(0), x, False))()
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    low, high = (
        jax.jit(lambda v, net=net: net.apply(v, x, True, mutable=["batch_stats"])[0])(variables)
        for net in (net, ResNet(BasicBlock, **sizes))
    )
    assert low.dtype == jnp.float32
    assert 0 < np.linalg.norm(low - high) / np.linalg.norm(high) < 0.05


def test_residual_branches_start_live():
    # Zero-initialised residual scales would make them dead: the paper's networks are not.
    net = backbone("resnet18_thin")
    variables = jax.jit(lambda: net.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), False))()
    np.testing.assert_array_equal(variables["params"]["layer1_0"]["bn2"]["scale"], np.ones(16))
    kernel = variables["params"]["layer4_1"]["conv2"]["kernel"]
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 128)), rtol=0.02)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown model.arch 'resnet49'.*resnet50w2"):
        backbone("resnet49")
    with pytest.raises(ValueError, match=r"unknown model.stem 'mnist'.*cifar"):
        backbone("resnet50", stem="mnist")
    assert "resnet50" in ARCHS


@pytest.mark.parametrize("remat", ["stage", "block"])
def test_what_is_computed_again_changes_nothing(remat):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16, 16, 3)), jnp.float32)

    def gradients(model):
        variables = model.init(jax.random.key(0), images, train=False)

        def loss(params):
            given = variables | {"params": params}
            features, updated = model.apply(given, images, train=True, mutable=["batch_stats"])
            return jnp.sum(features**2), updated

        return jax.make_jaxpr(jax.grad(loss, has_aux=True))(variables["params"]), jax.jit(
            jax.grad(loss, has_aux=True)
        )(variables["params"])

    plain, wanted = gradients(backbone("resnet10_tiny", stem="cifar"))
    again, found = gradients(backbone("resnet10_tiny", stem="cifar", remat=remat))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)
    assert "remat" not in str(plain) and str(again).count("remat") >= 4  # stages, or their blocks
