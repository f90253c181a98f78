"""The golden numbers of the reference implementations, read from GOLDEN_DIR."""

import re
from math import ceil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
import tensorflow as tf
from golden_files import GOLDEN_DIR, W, golden, golden_names
from references import golden_variables, relative

from swav_jax.augment import crops as device_crops
from swav_jax.augment import photometric
from swav_jax.data import crops
from swav_jax.data.crops import cut_all
from swav_jax.data.sources.decode import decode
from swav_jax.data.sources.pixels import AS_USUAL
from swav_jax.methods import momentum
from swav_jax.methods.contract import Clock
from swav_jax.methods.pcl import PCL
from swav_jax.models.backbones import backbone
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.ops.concentration import concentration
from swav_jax.ops.kmeans import kmeans
from swav_jax.ops.similarity import unit

pytestmark = pytest.mark.usefixtures("as_users_compile")

# ---- networks --------------------------------------------------------------------------


@pytest.mark.parametrize("name", golden_names("backbone_*.npz"))
def test_backbone_matches_reference(name):
    pairs = list(references.backbone_pairs(name))
    assert pairs
    for key, ours, theirs in pairs:
        assert relative(ours, theirs) < 1e-4, key


def test_multicrop_forward_matches_reference():
    file = golden("multicrop_forward.npz")
    seed, dim, batch = file["seed"], file["embedding"].shape[1], 4
    sizes = (64, 64, 32, 32, 32)
    assert file["embedding"].shape[0] == batch * len(sizes)
    crops = [
        W.images(seed, f"crop{i}", (batch, 3, size, size)).transpose(0, 2, 3, 1)[:, None]
        for i, size in enumerate(sizes)
    ]
    encoder = Encoder(backbone("resnet50"), ProjectionHead(hidden=2048, dim=dim))
    variables = golden_variables(encoder, seed, crops)
    z, _ = jax.jit(lambda v, x: encoder.apply(v, x, True, mutable=["batch_stats"]))(
        variables, crops
    )
    # The batch norms of the last stage see 12 values of the small crops, which magnifies rounding:
    # in float64 this network is 1.2e-4 from the reference's float32.
    crop_major = z.swapaxes(0, 1).reshape(-1, dim)
    assert relative(crop_major, file["embedding"]) < 5e-4
    prototypes = W.weight(seed, "prototypes.weight", (file["scores"].shape[1], dim))
    assert relative(crop_major @ prototypes.T, file["scores"]) < 5e-4


def test_sinkhorn_codes():
    pairs = list(references.sinkhorn_pairs())
    assert pairs
    for key, ours, theirs in pairs:
        assert np.abs(ours - theirs).max() < 1e-5, key


def test_larc(x64):
    pairs = list(references.larc_pairs())
    assert pairs
    for key, ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", golden_names("swav_trajectory_*.npz"))
def test_swav_trajectory(name, x64):
    for key, ours, theirs in references.trajectory_pairs(name):
        near_zero = 0 if key in ("lr", "loss", "final.norms") else 1e-9
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=near_zero, err_msg=key)


# ---- crops and augmentation ------------------------------------------------------------


def _photograph(arrays):
    return decode(tf.io.read_file(str(GOLDEN_DIR / arrays["image_file"])), AS_USUAL)


def _grey_levels_apart(ours, theirs):
    return np.abs(np.asarray(ours).astype(np.float64) - theirs).mean()


def _on_the_host(images, boxes, size):
    crops = np.empty((*boxes.shape[:2], size, size, 3), np.uint8)
    cut_all(images, boxes, [crops])
    return crops


def _on_the_device(images, boxes, size):
    return device_crops.cut(np.stack(images), boxes, size)


@pytest.mark.parametrize("cut", [_on_the_host, _on_the_device])
def test_crops_are_resized_as_by_pillow(cut):
    arrays = golden("augment.npz")
    photograph = _photograph(arrays).numpy()
    names = [name for name in arrays if name.startswith("resized")]
    assert names
    for name in names:
        number, size = map(int, name.removeprefix("resized").split("_"))
        crop = cut([photograph], arrays["boxes_ijhw"][None, number, None], size)[0, 0]
        assert _grey_levels_apart(crop, arrays[name]) < 1.5, name
    box = arrays["crop_box_ijhw"][None, None]
    crop = cut([photograph], box, len(arrays["crop96"]))[0, 0]
    assert _grey_levels_apart(crop, arrays["crop96"]) < 1.5


def test_central_crop_is_as_by_torchvision():
    arrays = golden("augment.npz")
    crop = crops.central_crop(_photograph(arrays), 256, 224)
    assert _grey_levels_apart(crop, arrays["center_crop224"]) < 1.5


@pytest.mark.parametrize(("kind", "scale"), [("global", (0.14, 1.0)), ("local", (0.05, 0.14))])
def test_crop_parameters_have_the_reference_quantiles(kind, scale):
    arrays = golden("random_resized_crop_quantiles.npz")
    height, width, draws, repeats = 375, 500, 40_000, 9
    ours = {"area": [], "log_aspect": [], "cy": [], "cx": []}
    for repeat in range(repeats):  # the median of repeats steadies the smallest and the largest
        uniform = tf.random.stateless_uniform(
            [draws, crops.TRIES, 4], [repeat, 0], dtype=tf.float64
        )
        low, high = np.full((2, draws, 1), np.array(scale)[:, None, None])
        boxes = crops.random_boxes(uniform, tf.constant([height, width]), low, high).numpy()
        top, left, h, w = boxes.astype(np.float64).T
        quantiles = np.linspace(0, 1, len(arrays[f"{kind}_area"]))
        ours["area"].append(np.quantile(h * w / (height * width), quantiles))
        ours["log_aspect"].append(np.quantile(np.log(w / h), quantiles))
        ours["cy"].append(np.quantile((top + h / 2) / height, quantiles))
        ours["cx"].append(np.quantile((left + w / 2) / width, quantiles))
    for name, values in ours.items():
        apart = np.abs(np.median(values, axis=0) - arrays[f"{kind}_{name}"]).max()
        assert apart < 0.01, (name, apart)


PHOTOMETRIC = golden("augment.npz")
OPERATIONS = {
    "brightness": photometric.brightness,
    "contrast": photometric.contrast,
    "saturation": photometric.saturation,
    "hue": photometric.hue,
    "pil_blur": lambda planes, sigma: photometric.gaussian_blur(planes, sigma, ceil(3 * sigma)),
}
WITH_NUMBER = re.compile(rf"({'|'.join(OPERATIONS)})(-?[\d.]+)")


def photometric_cases():
    cases = [name for name in PHOTOMETRIC if WITH_NUMBER.fullmatch(name)]
    kinds = {WITH_NUMBER.fullmatch(name)[1] for name in cases}
    assert kinds == set(OPERATIONS), f"augment.npz lacks {set(OPERATIONS) - kinds}"
    return [*cases, "grayscale", "hflip"]


@pytest.mark.parametrize("name", photometric_cases())
def test_photometric_operations(name):
    planes = photometric.to_planes(jnp.asarray(PHOTOMETRIC["crop96"]))
    if name == "grayscale":
        planes = photometric.saturation(planes, jnp.float32(0))
    elif name == "hflip":
        planes = photometric.flip(planes, jnp.bool_(True))
    else:
        operation, number = WITH_NUMBER.fullmatch(name).groups()
        planes = OPERATIONS[operation](planes, jnp.float32(number))
    ours = 255 * np.asarray(photometric.from_planes(planes))
    tolerance = 0 if name == "hflip" else 2 if name.startswith("pil_blur") else 1.5
    assert np.mean(np.abs(ours - PHOTOMETRIC[name])) <= tolerance + 1e-4


def test_normalised():
    image = jnp.asarray(PHOTOMETRIC["crop96"], jnp.float32) / 255
    expected = np.moveaxis(PHOTOMETRIC["normalized"], 0, -1)
    np.testing.assert_allclose(photometric.normalise(image), expected, atol=1e-5)


# ---- k-means ---------------------------------------------------------------------------


def test_deepcluster_v2_kmeans(x64):
    file = golden("deepclusterv2_kmeans.npz")
    banks = file["memory"]
    for head, expected in enumerate(file["assignments"]):
        bank = jnp.asarray(banks[head % len(banks)])
        init = bank[file[f"init{head}"]]
        result = kmeans(bank, init, iterations=10, spherical=True)
        by_index = np.full_like(expected, -1)
        by_index[file["index"]] = result.assignments
        np.testing.assert_array_equal(by_index, expected)
        np.testing.assert_allclose(result.centroids, file[f"centroids{head}"], atol=1e-6)


@pytest.mark.parametrize(
    "clustering", range(sum(name.startswith("density") for name in golden("pcl.npz")))
)
def test_pcl_concentration(clustering):
    file = golden("pcl.npz")
    features, members = file["features"], file[f"im2cluster{clustering}"]
    expected = file[f"density{clustering}"]
    clusters = len(expected)
    centroids = np.stack([features[members == k].mean(0) for k in range(clusters)])
    # No update and one assignment: distances to the raw centroids.
    result = kmeans(jnp.asarray(features), jnp.asarray(centroids), iterations=0)
    np.testing.assert_array_equal(result.assignments, members)
    phi = jax.jit(concentration, static_argnums=2, static_argnames="temperature")(
        result.distances, result.assignments, clusters, temperature=0.2
    )
    np.testing.assert_allclose(phi, expected, rtol=1e-4)


def test_pcl_step(monkeypatch):
    g = golden("pcl.npz")
    seed, index = g["seed"], g["index"]
    batch, (width, length) = len(index), g["queue_after"].shape
    inputs = g["key_weight_after"].shape[1]
    levels = range(sum(key.startswith("centroids") for key in g))

    def parameters(encoder):
        return {
            "kernel": jnp.asarray(W.weight(seed, f"{encoder}.weight", (width, inputs)).T),
            "bias": jnp.asarray(W.weight(seed, f"{encoder}.bias", (width,))),
        }

    def embed(parameters, name):
        x = jnp.asarray(W.images(seed, name, (batch, inputs)))
        return unit(x @ parameters["kernel"] + parameters["bias"][None])

    def first_left(key, positives, clusters, count):
        return jnp.asarray(np.setdiff1d(np.arange(clusters), positives)[:count])

    monkeypatch.setattr("swav_jax.methods.pcl.sample_negatives", first_left)
    method = PCL(
        None,
        prototypes=1,
        heads=1,
        temperature=0.2,
        momentum=0.99,
        negative_prototypes=int(g["negatives_per_clustering"]),
        granularity=tuple(len(g[f"centroids{i}"]) for i in levels),
    )
    columns = W.images(seed, "queue", (width, length))
    # The reference overwrites its columns from the first one on; our oldest rows are the last.
    columns = np.roll(columns / np.linalg.norm(columns, axis=0), -batch, axis=1)
    extra = {
        "key_encoder": parameters("k"),
        "keys": jnp.asarray(columns.T),
        "assignments": jnp.asarray(np.stack([g[f"im2cluster{i}"] for i in levels]), jnp.int32),
        "centroids": [jnp.asarray(g[f"centroids{i}"]) for i in levels],
        "densities": [jnp.asarray(g[f"density{i}"]) for i in levels],
    }
    params, extra = method.before_step(parameters("q"), extra)
    slow = extra["key_encoder"]
    np.testing.assert_allclose(slow["kernel"].T, g["key_weight_after"], rtol=1e-6, atol=1e-7)

    views = momentum.Views(embed(params, "imq")[:, None], embed(slow, "imk"))
    clock = Clock(jnp.int32(0), jnp.int32(0), jax.random.key(0))
    loss, (extra, metrics) = method.loss(params, extra, views, jnp.asarray(index), clock)
    np.testing.assert_allclose(metrics["info_nce"], g["info_nce"], atol=1e-5)
    np.testing.assert_allclose(metrics["proto_nce"], g["proto_nce"], atol=1e-5)
    np.testing.assert_allclose(loss, g["info_nce"] + g["proto_nce"], atol=2e-5)
    np.testing.assert_allclose(extra["keys"].T, g["queue_after"], rtol=1e-5, atol=1e-6)
