"""Checkpoints that the reference's own code wrote, if GOLDEN_DIR has any, give its numbers."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_files import GOLDEN_DIR, golden

from swav_jax import train
from swav_jax.augment.photometric import normalise
from swav_jax.checkpoints.read import load_variables
from swav_jax.data.batch import Batch
from swav_jax.methods.contract import Clock
from swav_jax.run import build, make_encoder
from swav_jax.step import state_shapes
from swav_jax.tasks.import_weights import import_weights, settings_of_file
from swav_jax.weights.torch_io import read_tensors

FILES = sorted(GOLDEN_DIR.glob("checkpoint_*.pth.tar"))


@pytest.fixture(scope="module", params=FILES, ids=lambda file: file.name)
def imported(request, tmp_path_factory):
    """The settings, the variables and what the reference computed with them."""
    pytest.importorskip("torch")
    config = settings_of_file(str(request.param))
    config.init_from = str(request.param)
    workdir = tmp_path_factory.mktemp("imported") / "run"
    import_weights(config, workdir)
    variables, metadata = load_variables(workdir)
    assert metadata["config"]["model"] == config.model.to_dict()
    return config, variables, golden(request.param.name.replace(".pth.tar", ".npz"))


def test_features_embeddings_and_scores_are_the_references(imported):
    config, variables, expected = imported
    encoder = make_encoder(config)
    assert expected["width"] == encoder.backbone.width
    images = normalise(expected["images"].astype(np.float32) / 255, std=config.augment.std)
    features = jax.jit(lambda v, x: encoder.apply(v, x, method="features"))(variables, images)
    np.testing.assert_allclose(features, expected["features"], atol=1e-4)
    embedding = jax.jit(lambda v, x: encoder.apply(v, x, train=False))(variables, [images[:, None]])
    np.testing.assert_allclose(embedding[:, 0], expected["embedding"], atol=1e-4)
    sets = variables["params"]["prototypes"]
    assert len(sets) == len(expected["prototypes"])
    for h, count in enumerate(expected["prototypes"]):
        scores = embedding[:, 0] @ sets[f"prototypes{h}"].T
        assert scores.shape[1] == count
        np.testing.assert_allclose(scores, expected[f"scores{h}"], atol=1e-4)


# ---- the first loss of a training, written once more in PyTorch ----------------------------------


def blocks(tensors):
    """The names of a ResNet's blocks, in order."""
    for stage in itertools.count(1):
        for number in itertools.count():
            if f"layer{stage}.{number}.conv1.weight" not in tensors:
                break
            yield f"layer{stage}.{number}."
        if not number:
            return


def features(torch, w, x):
    """Pooled features in train mode of a ResNet for small images: w by published names, x NCHW."""
    nn = torch.nn.functional

    def conv_norm(x, conv, norm, stride=1):
        kernel = w[f"{conv}.weight"]
        x = nn.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        scale, bias = w[f"{norm}.weight"], w[f"{norm}.bias"]
        return nn.batch_norm(x, None, None, scale, bias, training=True)

    x = nn.relu(conv_norm(x, "conv1", "bn1"))
    for block in blocks(w):
        strided = 2 if f"{block}downsample.0.weight" in w and not block.startswith("layer1") else 1
        layers = 3 if f"{block}conv3.weight" in w else 2
        y = x
        for i in range(1, layers + 1):
            stride = strided if i == layers - 1 else 1  # of the 3x3 convolution that is first
            y = conv_norm(y, f"{block}conv{i}", f"{block}bn{i}", stride)
            y = nn.relu(y) if i < layers else y
        if f"{block}downsample.0.weight" in w:
            x = conv_norm(x, f"{block}downsample.0", f"{block}downsample.1", strided)
        x = nn.relu(x + y)
    return x.mean((2, 3))


def swav_loss(torch, w, crops, temperature=0.1, epsilon=0.05):
    """The loss of SwAV with a head of two layers; `crops` are [B, n, S, S, 3], big ones first."""
    nn = torch.nn.functional
    sizes = [crop.shape[1] for crop in crops]
    big, views, batch = sizes[0], sum(sizes), len(crops[0])
    crop_major = [torch.tensor(np.swapaxes(crop, 0, 1)).flatten(0, 1) for crop in crops]
    x = torch.cat([features(torch, w, crop.permute(0, 3, 1, 2)) for crop in crop_major])
    head = "projection_head."
    x = nn.linear(x, w[f"{head}0.weight"], w[f"{head}0.bias"])
    x = nn.batch_norm(x, None, None, w[f"{head}1.weight"], w[f"{head}1.bias"], training=True)
    x = nn.linear(nn.relu(x), w[f"{head}3.weight"], w[f"{head}3.bias"])
    z = nn.normalize(x).reshape(views, batch, -1)
    losses = []
    for rows in (rows for name, rows in w.items() if name.startswith("prototypes")):
        scores = z @ nn.normalize(rows).T
        for i in range(big):
            codes = torch.exp(scores[i].double() / epsilon)
            for _ in range(3):
                codes = codes / codes.sum(0, keepdim=True)
                codes = codes / codes.sum(1, keepdim=True)
            others = [v for v in range(views) if v != i]
            logs = nn.log_softmax(scores[others].double() / temperature, dim=-1)
            losses.append(-(codes * logs).sum(-1).mean())
    return float(torch.stack(losses).mean())


def test_a_training_begins_with_the_references_loss(imported, tmp_path):
    torch = pytest.importorskip("torch")
    config, _, expected = imported
    if len(set(expected["prototypes"])) > 1:
        pytest.skip("sets of several sizes are read, and not trained")
    config = config.copy_and_resolve_references()
    config.augment.order = ()  # less to compile
    config.data.name, config.data.test = "digits", ""
    config.data.batch_size = 16
    config.data.crops = ((2, 32, 0.3, 1.0), (2, 16, 0.1, 0.3))
    run = build(config, devices=jax.devices()[:1])
    shapes = state_shapes(run)
    images = np.random.default_rng(0)
    crops = tuple(images.integers(0, 256, (16, 2, side, side, 3), np.uint8) for side in (32, 16))
    numbers = np.arange(16, dtype=np.int32)
    clock = Clock(step=jnp.int32(0), epoch=jnp.int32(0), key=jax.random.key(0))

    def first_loss(state, crops):
        params, extra = run.method.before_step(state.params, state.extra)
        outputs, _ = run.method.forward(params, state.batch_stats, extra, crops)
        return run.method.loss(params, extra, outputs, numbers, clock)[0]

    with jax.set_mesh(run.mesh):
        seen = run.augment(Batch(crops, numbers, numbers), 0)
        loss = jax.jit(first_loss)(train.start(run, shapes, tmp_path), seen)
    tensors = {
        re.sub(r"^(state_dict\.)?(module\.)?", "", name): torch.tensor(value)
        for name, value in read_tensors(config.init_from).items()
    }
    expected = swav_loss(torch, tensors, [np.asarray(crop) for crop in seen])
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
