import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.models.resnet import BasicBlock, ResNet

SIZES = ((1, 16), (1, 16), (3, 12))  # Crops of an image and their pixels, in three entries.


def _encoder(bn_groups=1):
    net = ResNet(BasicBlock, (1, 1), width=8, stem="cifar", bn_groups=bn_groups)
    return Encoder(net, ProjectionHead(hidden=8, dim=4, bn_groups=bn_groups))


def _crops(batch):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(batch, n, s, s, 3)).astype(np.float32) for n, s in SIZES]


def _init(encoder, crops):
    return jax.jit(lambda: encoder.init(jax.random.key(0), crops, train=False))()


def _train(module, variables, x):
    apply = jax.jit(lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"]))
    return apply(variables, x)


def test_one_backbone_pass_for_each_resolution_and_one_head_pass():
    encoder, crops = _encoder(), _crops(4)
    variables = _init(encoder, crops)
    z, updates = _train(encoder, variables, crops)
    assert z.shape == (4, 5, 4)
    np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 1.0, rtol=1e-5)

    # The same by hand, crop-major as PyTorch has it.
    net, head = encoder.backbone, encoder.head
    params, stats = variables["params"], variables["batch_stats"]
    features, bn_stats = [], stats["backbone"]
    for same_size in ([crops[0], crops[1]], [crops[2]]):
        x = np.concatenate(same_size, axis=1).swapaxes(0, 1)
        y, bn = _train(
            net,
            {"params": params["backbone"], "batch_stats": bn_stats},
            x.reshape(-1, *x.shape[2:]),
        )
        features.append(y)
        bn_stats = bn["batch_stats"]
    expected, _ = _train(
        head,
        {"params": params["head"], "batch_stats": stats["head"]},
        jnp.concatenate(features),
    )
    expected = np.asarray(expected / jnp.linalg.norm(expected, axis=-1, keepdims=True))
    np.testing.assert_allclose(z, expected.reshape(5, 4, 4).swapaxes(0, 1), atol=1e-4)
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-5),
        updates["batch_stats"]["backbone"],
        bn_stats,
    )


def test_batch_norm_groups_are_groups_of_images():
    crops = _crops(8)
    variables = _init(_encoder(), crops)
    z, _ = _train(_encoder(bn_groups=2), variables, crops)
    halves = [
        _train(_encoder(), variables, [crop[start : start + 4] for crop in crops])[0]
        for start in (0, 4)
    ]
    np.testing.assert_allclose(z, np.concatenate(halves), atol=1e-4)
    whole, _ = _train(_encoder(), variables, crops)
    assert np.abs(z - whole).max() > 0.01


def test_features_are_those_of_the_backbone():
    encoder, crops = _encoder(), _crops(2)
    variables = _init(encoder, crops)
    images = crops[0][:, 0]
    np.testing.assert_array_equal(
        encoder.apply(variables, images, method="features"),
        encoder.backbone.apply(
            {name: tree["backbone"] for name, tree in variables.items()}, images, train=False
        ),
    )


@pytest.mark.parametrize("bn_groups", [1, 4])
def test_eight_devices_give_what_one_gives(bn_groups):
    encoder, crops = _encoder(bn_groups), _crops(8)
    variables = _init(encoder, crops)

    def loss(params, crops):
        z, updates = _train(encoder, variables | {"params": params}, crops)
        return jnp.square(z.sum((1, 2))).sum(), (z, updates)

    step = jax.jit(jax.grad(loss, has_aux=True))
    one = step(variables["params"], crops)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    eight = step(variables["params"], jax.device_put(crops, sharding))
    # Gradients of the first layers are around 100, and sums over devices round elsewhere.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=5e-3), one, eight)
