import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from swav_jax.models.alexnet_vgg import POOL, SobelNet
from swav_jax.models.backbones import ARCHS, backbone
from swav_jax.models.sobel import sobel


def test_sobel_is_scipys():
    images = np.random.RandomState(0).normal(size=(2, 7, 9, 3)).astype(np.float32)
    edges = np.asarray(sobel(jnp.asarray(images)))
    assert edges.shape == (2, 7, 9, 2)
    for image, edge in zip(images.mean(-1), edges, strict=True):
        # SciPy's filter has the opposite sign.
        for axis, channel in ((1, 0), (0, 1)):
            expected = -ndimage.sobel(image, axis, mode="constant")
            np.testing.assert_allclose(edge[..., channel], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "convolutions", "flat"), [("alexnet_sobel", 5, 9216), ("vgg16_sobel", 13, 25088)]
)
def test_layers_are_those_of_the_paper(arch, convolutions, flat):
    assert arch in ARCHS
    model = backbone(arch, dtype=jnp.bfloat16)
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    features, variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=True), images
    )
    assert features.shape == (2, 4096) and features.dtype == jnp.float32
    params = variables["params"]
    kernels = [layer["kernel"].shape for layer in params.values() if "kernel" in layer]
    assert len(kernels) == convolutions + 2
    assert params["features_0"]["kernel"].shape[2] == 2  # edges, not colours
    assert params["classifier_1"]["kernel"].shape == (flat, 4096)
    assert len(variables["batch_stats"]) == convolutions
    assert "bias" not in params["features_0"]


def test_features_are_taken_before_the_last_relu_and_colours_do_not_matter():
    model = SobelNet(layers=((4, 3, 1, 1), POOL), pool=2, units=64)
    images = jax.random.normal(jax.random.key(1), (3, 8, 8, 3))
    features, variables = model.init_with_output(jax.random.key(0), images, train=False)
    assert (features < 0).any()
    swapped = model.apply(variables, images[..., ::-1], train=False)
    np.testing.assert_allclose(swapped, features, atol=1e-5)


def test_too_small_images_are_refused():
    model = backbone("alexnet_sobel")
    with pytest.raises(ValueError, match="images of 32 pixels are too small"):
        jax.eval_shape(
            lambda x: model.init(jax.random.key(0), x, train=False),
            jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32),
        )


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("alexnet_sobel", {"c3": (27, 96), "c4": (13, 256), "c5": (6, 256)}),
        (
            "vgg16_sobel",
            {"c1": (112, 64), "c2": (56, 128), "c3": (28, 256), "c4": (14, 512), "c5": (7, 512)},
        ),
    ],
)
def test_stages_are_the_maps_after_each_pooling(arch, expected):
    model, images = backbone(arch), jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    maps = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=False, method="stages"), variables, images
    )
    assert {name: (found.shape[1], found.shape[3]) for name, found in maps.items()} == expected


def test_the_last_stage_is_what_the_linear_layers_see():
    model = SobelNet(layers=((4, 3, 2, 1), POOL, (3, 3, 1, 1), POOL), pool=2, units=6)
    images = jax.random.normal(jax.random.key(1), (3, 16, 16, 3))
    features, variables = model.init_with_output(jax.random.key(0), images, train=False)
    maps = model.apply(variables, images, train=False, method="stages")
    assert list(maps) == ["c2", "c3"]
    layers = variables["params"]
    x = maps["c3"].reshape(3, -1)
    x = jax.nn.relu(x @ layers["classifier_1"]["kernel"] + layers["classifier_1"]["bias"][None])
    x = x @ layers["classifier_4"]["kernel"] + layers["classifier_4"]["bias"][None]
    np.testing.assert_allclose(x, features, rtol=1e-5, atol=1e-6)
    larger = model.apply(variables, jnp.zeros((1, 32, 32, 3)), train=False, method="stages")
    assert larger["c3"].shape == (1, 4, 4, 3)
