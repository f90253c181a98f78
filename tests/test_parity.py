"""The golden numbers of the reference implementations, read from GOLDEN_DIR."""

import re
from functools import partial
from math import ceil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from golden_files import GOLDEN_DIR, W, golden, golden_names

from swav_jax import optim
from swav_jax.augment import photometric
from swav_jax.data import crops
from swav_jax.data.batch import Batch
from swav_jax.data.sources.decode import decode
from swav_jax.data.sources.pixels import AS_USUAL
from swav_jax.methods import momentum
from swav_jax.methods.contract import Clock
from swav_jax.methods.pcl import PCL
from swav_jax.methods.swav import SwAV
from swav_jax.models.backbones import backbone
from swav_jax.models.encoder import Encoder
from swav_jax.models.heads import ProjectionHead
from swav_jax.ops.concentration import concentration
from swav_jax.ops.kmeans import kmeans
from swav_jax.ops.similarity import unit
from swav_jax.ops.sinkhorn import sinkhorn
from swav_jax.step import init_state, train_step
from swav_jax.weights.torch_names import from_torch, to_torch

pytestmark = pytest.mark.usefixtures("as_users_compile")

# ---- networks --------------------------------------------------------------------------


def _relative(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def _golden_variables(module, seed, *args):
    """Variables of `module` with the golden weights, each drawn by its PyTorch name."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *args, train=False))
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    return from_torch({name: W.weight(seed, name, x.shape) for name, x in to_torch(zeros).items()})


@pytest.mark.parametrize("name", golden_names("backbone_*.npz"))
def test_backbone_matches_reference(name):
    file = golden(name)
    seed = file["seed"]
    net = backbone(name.removeprefix("backbone_").removesuffix(".npz"))
    # The tree {"backbone": ...} of an Encoder is what the name rule speaks of.
    encoder = Encoder(net, ProjectionHead(hidden=0, dim=1))
    variables = _golden_variables(encoder, seed, [jnp.zeros((1, 1, 32, 32, 3))])
    for key in sorted(k for k in file if k.startswith(("eval", "train"))):
        mode, size = key[:-2].rstrip("0123456789"), int(key.lstrip("evaltrin"))
        images = W.images(seed, f"input{size}", (2, 3, size, size)).transpose(0, 2, 3, 1)
        forward = partial(
            encoder.apply,
            train=mode.startswith("train"),
            method="features",
            mutable=["batch_stats"],
        )
        features, updates = jax.jit(forward)(variables, images)
        assert _relative(features, file[key]) < 1e-4, key
        if mode.startswith("train"):
            running = to_torch(updates)
            for buffer in (k for k in file if "_running_" in k):
                ours = running[buffer.replace("_running_", ".running_")]
                assert _relative(ours, file[buffer]) < 1e-4, buffer


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
    variables = _golden_variables(encoder, seed, crops)
    z, _ = jax.jit(lambda v, x: encoder.apply(v, x, True, mutable=["batch_stats"]))(
        variables, crops
    )
    # The batch norms of the last stage see 12 values of the small crops, which magnifies rounding:
    # in float64 this network is 1.2e-4 from the reference's float32.
    crop_major = z.swapaxes(0, 1).reshape(-1, dim)
    assert _relative(crop_major, file["embedding"]) < 5e-4
    prototypes = W.weight(seed, "prototypes.weight", (file["scores"].shape[1], dim))
    assert _relative(crop_major @ prototypes.T, file["scores"]) < 5e-4


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("key", [k for k in golden("sinkhorn.npz") if k.startswith("q_")])
def test_sinkhorn_codes(key):
    g = golden("sinkhorn.npz")
    k, b, eps, iterations = re.fullmatch(r"q_K(\d+)_B(\d+)_eps([\d.]+)_it(\d+)", key).groups()
    z = _unit(W.images(g["seed"], f"z{k}", (int(b), 32)).astype(np.float64))
    c = _unit(W.images(g["seed"], f"c{k}", (int(k), 32)).astype(np.float64))
    scores = jnp.asarray(z @ c.T, jnp.float32)
    codes = sinkhorn(scores, epsilon=float(eps), iterations=int(iterations)).codes
    assert np.abs(np.asarray(codes)[: len(g[key])] - g[key]).max() < 1e-5


def test_larc(x64):
    g = golden("larc_sgd.npz")
    names = [k.removeprefix("step0.") for k in g if k.startswith("step0.")]
    params = {n: W.weight(g["seed"], n, g[f"step0.{n}"].shape).astype(np.float64) for n in names}
    params["zero.weight"] = np.zeros_like(params["zero.weight"])
    tx = optim.optimizer("larc", weight_decay=g["weight_decay"], momentum=0.9)
    state = tx.init(params)
    for t, lr in enumerate(g["lr"]):
        grads = {
            n: W.images(g["seed"], f"grad{t}.{n}", p.shape).astype(np.float64)
            for n, p in params.items()
        }
        if t == 3:
            grads["bn.bias"] *= 0
        frozen = {"fc.weight": t < 2}
        direction, new_state = tx.update(grads, state, params)
        state = optim.freeze(frozen, new_state, state)
        moved = {n: params[n] - lr * direction[n] for n in names}
        params = optim.freeze(frozen, moved, params)
        for n in names:
            np.testing.assert_allclose(params[n], g[f"step{t}.{n}"], rtol=1e-6, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", golden_names("swav_trajectory_*.npz"))
def test_swav_trajectory(name, x64):
    g = golden(name)
    seed, batch, total = g["seed"], g["batch"], len(g["loss"])
    encoder = Encoder(
        backbone("resnet14", dtype=jnp.float64, param_dtype=jnp.float64),
        ProjectionHead(32, 16, dtype=jnp.float64, param_dtype=jnp.float64),
    )
    method = SwAV(
        encoder,
        prototypes=g["prototypes"],
        heads=1,
        freeze_prototypes_steps=g["freeze_prototypes_niters"],
        queue_length=g["queue_length"],
        queue_start_epoch=4,
    )
    optimizer = optim.optimizer("larc", weight_decay=1e-6, momentum=0.9)
    schedule = optim.warmup_cosine(
        base=4.8, final=0.0048, start=0.3, warmup_steps=g["warmup"], total_steps=total
    )
    step = jax.jit(
        partial(
            train_step,
            method=method,
            optimizer=optimizer,
            schedule=schedule,
            augment=lambda batch, epoch: batch.crops,
            steps_per_epoch=1,
            seed=0,
        )
    )

    def crops(t):
        sizes = (64, 64, 32, 32)
        images = [W.images(seed, f"step{t}.crop{i}", (batch, 3, s, s)) for i, s in enumerate(sizes)]
        return tuple(np.transpose(x, (0, 2, 3, 1)).astype(np.float64)[:, None] for x in images)

    initial = jax.jit(partial(init_state, method, optimizer, size=batch, seed=0))  # fewer programs
    state = initial(crops(0))
    ours = to_torch({"params": state.params, "batch_stats": state.batch_stats})
    drawn = {n: W.weight(seed, n, x.shape).astype(np.float64) for n, x in ours.items()}
    state = state.replace(**from_torch(drawn))
    numbers, losses, lrs = np.arange(batch, dtype=np.int32), [], []
    for t in range(total):
        state, metrics = step(state, Batch(crops(t), numbers, numbers))
        losses.append(float(metrics["loss"]))
        lrs.append(float(metrics["lr"]))
    np.testing.assert_allclose(lrs, g["lr"], rtol=1e-6)
    np.testing.assert_allclose(losses, g["loss"], rtol=1e-6)
    final = to_torch({"params": state.params, "batch_stats": state.batch_stats})
    for key in [k for k in g if k.startswith("final.") and k not in ("final.names", "final.norms")]:
        np.testing.assert_allclose(final[key.removeprefix("final.")], g[key], rtol=1e-6, atol=1e-9)
    norms = [np.linalg.norm(final[n]) for n in g["final.names"]]
    np.testing.assert_allclose(norms, g["final.norms"], rtol=1e-6)


# ---- crops and augmentation ------------------------------------------------------------


def _photograph(arrays):
    return decode(tf.io.read_file(str(GOLDEN_DIR / arrays["image_file"])), AS_USUAL)


def _grey_levels_apart(ours, theirs):
    return np.abs(ours.numpy().astype(np.float64) - theirs).mean()


def test_crops_are_resized_as_by_pillow():
    arrays = golden("augment.npz")
    photograph = _photograph(arrays)
    names = [name for name in arrays if name.startswith("resized")]
    assert names
    for name in names:
        number, size = map(int, name.removeprefix("resized").split("_"))
        crop = crops.cut(photograph, arrays["boxes_ijhw"][number : number + 1], size)[0]
        assert _grey_levels_apart(crop, arrays[name]) < 1.5, name
    crop = crops.cut(photograph, arrays["crop_box_ijhw"][None], len(arrays["crop96"]))[0]
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
