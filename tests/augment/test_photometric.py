import itertools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from PIL import Image, ImageEnhance
from scipy import ndimage

from swav_jax.augment import photometric
from swav_jax.augment.photometric import Augment, Draw

NOTHING = Augment(flip=0, jitter=0, grey=0, blur=0)
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def random_crops(batch, *specs, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(
        rng.integers(0, 256, (batch, count, size, size, 3), np.uint8) for count, size in specs
    )


@partial(jax.jit, static_argnames="settings")
def run(crops, index, settings, *, seed=3, epoch=2):
    return photometric.augment(crops, index, seed=seed, epoch=epoch, settings=settings)


def draws(settings, count=4000):
    keys = jax.random.split(jax.random.key(0), count)
    return jax.tree.map(np.asarray, jax.vmap(lambda key: photometric.draw(key, settings))(keys))


def test_shapes_and_normalisation():
    crops = random_crops(3, (2, 8), (4, 6))
    big, small = run(crops, np.arange(3, dtype=np.int32), NOTHING)
    assert big.shape == (3, 2, 8, 8, 3) and small.shape == (3, 4, 6, 6, 3)
    assert big.dtype == small.dtype == jnp.float32
    expected = (crops[1] / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.228, 0.224, 0.225])
    np.testing.assert_allclose(small, expected, atol=1e-5)


def test_jit_equals_eager():
    crops, index = random_crops(2, (2, 8)), np.array([5, 9], np.int32)
    eager = photometric.augment(crops, index, seed=3, epoch=2, settings=Augment())
    np.testing.assert_allclose(run(crops, index, Augment())[0], eager[0], atol=1e-5)


def test_a_sample_depends_on_seed_epoch_index_and_crop_alone():
    jitter = replace(NOTHING, jitter=1)
    crops = (np.broadcast_to(random_crops(1, (1, 8))[0], (4, 3, 8, 8, 3)),) * 2
    index = np.array([7, 3, 11, 3], np.int32)
    first, second = map(np.asarray, run(crops, index, jitter))

    np.testing.assert_array_equal(first[1], first[3])  # one image in two places
    np.testing.assert_array_equal(first[::-1], run(crops, index[::-1], jitter)[0])
    everything = np.concatenate([first[:3], second[:3]], 1).reshape(18, -1)
    assert len(np.unique(everything, axis=0)) == 18  # crops are numbered through all sizes
    assert np.any(first != run(crops, index, jitter, epoch=3)[0], axis=(-3, -2, -1)).all()
    assert np.any(first != run(crops, index, jitter, seed=4)[0], axis=(-3, -2, -1)).all()


def test_devices_change_nothing_and_exchange_nothing():
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    crops, index = random_crops(8, (2, 12), (3, 8)), np.arange(8, dtype=np.int32)

    spread = jax.device_put((crops, index), rows)
    compiled = run.lower(*spread, Augment()).compile()
    assert not any(name in compiled.as_text() for name in COLLECTIVES)
    for ours, alone in zip(compiled(*spread), run(crops, index, Augment()), strict=True):
        assert ours.sharding.is_equivalent_to(rows, ours.ndim)
        np.testing.assert_array_equal(ours, alone)


def test_shares_are_the_probabilities():
    drawn = draws(Augment(flip=0.5, jitter=0.8, grey=0.2, blur=0.3))
    jittered = np.any(drawn.factors != 1, axis=-1)
    np.testing.assert_array_equal(jittered, drawn.hue != 0)
    shares = [np.mean(x) for x in (drawn.flip, jittered, drawn.grey, drawn.sigma > 0)]
    np.testing.assert_allclose(shares, [0.5, 0.8, 0.2, 0.3], atol=0.03)


def test_strengths_are_uniform():
    drawn = draws(Augment(jitter=1, blur=1, brightness=0.4, contrast=1.5, hue=0.1))
    values = [*drawn.factors.T, drawn.hue, drawn.sigma]
    ranges = [(0.6, 1.4), (0, 2.5), (0.2, 1.8), (-0.1, 0.1), (0.1, 2.0)]
    for value, (low, high) in zip(values, ranges, strict=True):
        grid = np.linspace(0, 1, 11)
        np.testing.assert_allclose(np.quantile((value - low) / (high - low), grid), grid, atol=0.03)


def test_every_order_is_as_likely():
    drawn = draws(Augment(), 4800)
    orders = [(*order, after) for order, after in zip(drawn.order, drawn.hue_after, strict=True)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert counts.shape == (24,)
    assert counts.min() > 140 and counts.max() < 260


def test_operations_act_where_drawn():
    image = random_crops(1, (1, 8))[0]
    crops, index = (np.broadcast_to(image, (64, 1, 8, 8, 3)),), np.arange(64, dtype=np.int32)
    plain = np.asarray(run((image,), index[:1], NOTHING)[0])[0, 0]

    def share_equal_to(expected, results):
        return np.mean(np.all(np.abs(np.asarray(results) - expected) < 1e-5, axis=(1, 2, 3)))

    flipped = run(crops, index, replace(NOTHING, flip=0.5))[0][:, 0]
    mirrored, untouched = (share_equal_to(x, flipped) for x in (plain[:, ::-1], plain))
    assert 0.3 < mirrored < 0.7 and mirrored + untouched == 1
    greyed = run(crops, index, replace(NOTHING, grey=0.5))[0][:, 0]
    always = np.asarray(run((image,), index[:1], replace(NOTHING, grey=1))[0])[0, 0]
    assert 0.3 < share_equal_to(plain, greyed) < 0.7
    assert share_equal_to(always, greyed) + share_equal_to(plain, greyed) == 1
    blurred = run(crops, index, replace(NOTHING, blur=0.5, blur_radius=(1.0, 2.0)))[0][:, 0]
    assert 0.3 < share_equal_to(plain, blurred) < 0.7


def test_probability_zero_is_not_compiled():
    crops, index = random_crops(1, (1, 8)), np.zeros(1, np.int32)

    def size(settings):
        return len(jax.make_jaxpr(partial(run.__wrapped__, settings=settings))(crops, index).eqns)

    for one in ("flip", "jitter", "grey", "blur"):
        assert size(NOTHING) < size(replace(NOTHING, **{one: 0.5})) < size(Augment())


def test_jitter_follows_each_images_order():
    rng = np.random.default_rng(0)
    names = ["brightness", "contrast", "saturation"]
    cases = list(itertools.product(itertools.permutations(range(3)), range(4)))
    factors = rng.uniform(0.2, 1.8, (len(cases), 3)).astype(np.float32)
    turns = rng.uniform(-0.2, 0.2, len(cases)).astype(np.float32)
    planes = rng.random((3, len(cases), 6, 6), np.float32)
    drawn = Draw(
        flip=None,
        factors=jnp.asarray(factors),
        order=jnp.array([order for order, _ in cases]),
        hue=jnp.asarray(turns),
        hue_after=jnp.array([after for _, after in cases]),
        grey=None,
        sigma=None,
    )
    together = np.asarray(photometric.jitter(jnp.asarray(planes), drawn))

    for i, (order, after) in enumerate(cases):
        steps = [(getattr(photometric, names[j]), factors[i, j]) for j in order]
        steps.insert(after, (photometric.hue, turns[i]))
        expected = jnp.asarray(planes[:, i])
        for operation, value in steps:
            expected = operation(expected, jnp.asarray(value))
        np.testing.assert_allclose(together[:, i], expected, atol=1e-5)
    backwards = photometric.jitter(jnp.asarray(planes), drawn._replace(order=drawn.order[:, ::-1]))
    assert np.mean(np.abs(backwards - together)) > 0.01  # the order matters


def test_hue_matches_hsv():
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (20, 20, 3), np.uint8)
    rgb[:2] = rgb[:2, :, :1]  # greys
    rgb[2:4, :, 1] = rgb[2:4, :, 0]  # two equal channels
    for turns in (-0.5, -0.17, 0.0, 0.3, 0.5):
        hsv = np.array(Image.fromarray(rgb).convert("HSV"))
        hsv[..., 0] += np.uint8(round(turns * 256) % 256)
        expected = np.array(Image.fromarray(hsv, "HSV").convert("RGB"))
        planes = photometric.hue(photometric.to_planes(jnp.asarray(rgb)), jnp.float32(turns))
        ours = 255 * np.asarray(photometric.from_planes(planes))
        assert np.mean(np.abs(ours - expected)) < 1.5
        if turns == 0:
            np.testing.assert_allclose(ours, rgb, atol=1e-3)


@pytest.mark.usefixtures("on_each_platform")
@pytest.mark.parametrize("size", [1, 5, 24])
def test_blur_is_a_gaussian_up_to_the_border(size):
    sigmas = np.array([0.0, 0.1, 0.6, 2.0], np.float32)
    planes = np.random.default_rng(2).random((3, len(sigmas), size, size), np.float32)
    ours = photometric.gaussian_blur(jnp.asarray(planes), jnp.asarray(sigmas), reach=6)
    np.testing.assert_array_equal(ours[:, 0], planes[:, 0])
    for i, sigma in enumerate(sigmas[1:], 1):
        expected = planes[:, i].astype(np.float64)
        for axis in (1, 2):
            expected = ndimage.gaussian_filter1d(expected, sigma, axis, radius=6, mode="nearest")
        np.testing.assert_allclose(ours[:, i], expected, atol=1e-5)


@pytest.mark.parametrize("size", [5, 24])
def test_products_blur_as_shifts_do(size):
    rng = np.random.default_rng(3)
    planes = rng.random((3, 2, 2, size, size), np.float32)
    weights = rng.random((2, 2, 13), np.float32) / 13  # of no symmetry
    np.testing.assert_allclose(
        photometric.blur_by_products(planes, weights),
        photometric.blur_by_shifts(planes, weights),
        atol=1e-5,
    )


@pytest.mark.usefixtures("on_each_platform")
def test_contrast_moves_away_from_pillows_mean():
    pixels = np.random.default_rng(4).integers(0, 256, (12, 12, 3), np.uint8)
    expected = np.asarray(ImageEnhance.Contrast(Image.fromarray(pixels)).enhance(1.4))
    planes = photometric.contrast(photometric.to_planes(jnp.asarray(pixels)), jnp.float32(1.4))
    ours = 255 * np.asarray(photometric.from_planes(planes))
    assert np.abs(ours - expected).max() < 1.5  # Pillow's mean and results are whole numbers


def test_only_a_tpu_blurs_by_products():
    def lowered(platform):
        arrays = jnp.zeros((3, 2, 8, 8)), jnp.ones(2)
        program = jax.jit(partial(photometric.gaussian_blur, reach=2)).trace(*arrays)
        return program.lower(lowering_platforms=(platform,)).as_text()

    assert "dot_general" in lowered("tpu")
    assert "dot_general" not in lowered("cpu")


def test_blur_scales_with_the_reference_size():
    crops, index = random_crops(2, (2, 16)), np.arange(2, dtype=np.int32)
    scaled = replace(NOTHING, blur=1, blur_radius=(2.0, 2.0), blur_reference_size=32)
    fixed = replace(NOTHING, blur=1, blur_radius=(1.0, 1.0))
    np.testing.assert_allclose(run(crops, index, scaled)[0], run(crops, index, fixed)[0], atol=1e-6)


def test_order_is_data():
    crops, index = random_crops(4, (2, 8)), np.arange(4, dtype=np.int32)
    grey_first = replace(
        NOTHING, grey=1, jitter=1, order=("grey", "jitter"), mean=(0, 0, 0), std=(1, 1, 1)
    )
    luma_jittered = np.asarray(run(crops, index, grey_first)[0])
    assert np.ptp(luma_jittered, axis=-1).max() < 1e-6
    grey_last = replace(grey_first, order=("jitter", "grey"))
    assert np.abs(luma_jittered - run(crops, index, grey_last)[0]).mean() > 0.01
    with pytest.raises(ValueError, match="solarise"):
        Augment(order=("flip", "solarise"))


def test_one_number_normalises_all_channels():
    images = jnp.asarray([[[[0.2, 0.5, 0.8]]]], jnp.float32)
    same = photometric.normalise(images, (0.5,), (0.25,))
    np.testing.assert_allclose(same[0, 0, 0], [-1.2, 0, 1.2], 1e-6)
    each = photometric.normalise(images, (0.2, 0.5, 0.3), (1.0, 1.0, 0.25))
    np.testing.assert_allclose(each[0, 0, 0], [0, 0, 2], 1e-6)
