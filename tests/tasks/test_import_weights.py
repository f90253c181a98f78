import json

import numpy as np
import pytest
from processes import launch, succeed
from tiny import ARCH
from weights import published

import swav_jax
from swav_jax.config import ConfigError
from swav_jax.tasks.import_weights import import_weights, settings_of_file
from swav_jax.trained import open_trained
from swav_jax.weights.torch_io import WeightsError

ENCODER, VARIABLES, SETS = published.network(arch=ARCH, stem="strided")


def saved(path, tensors):
    """A file of safetensors, which has no array that is not contiguous."""
    files = pytest.importorskip("safetensors.numpy")
    files.save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, path)
    return str(path)


@pytest.fixture
def file(tmp_path):
    return saved(tmp_path / "swav.safetensors", published.swav(VARIABLES, SETS))


def test_a_file_becomes_a_workdir(file, tmp_path):
    config = settings_of_file(file)
    assert (config.model.arch, config.model.stem, config.model.dim) == (ARCH, "cifar", 8)
    assert config.model.prototypes == 5 and config.model.prototype_heads == 3
    config.model.stem, config.init_from = "strided", file  # as a flag may say
    import_weights(config, tmp_path / "run")
    trained = open_trained(config, tmp_path / "run")
    assert trained.encoder == ENCODER
    for part in ("backbone", "head"):
        here, there = VARIABLES["params"][part], trained.variables["params"][part]
        for name, module in here.items():
            for kind, value in module.items():
                np.testing.assert_array_equal(there[name][kind], value)
    model, variables = swav_jax.load_backbone(tmp_path / "run")
    images = np.ones((2, 16, 16, 3), np.float32)
    expected = ENCODER.apply(VARIABLES, images, method="features")
    np.testing.assert_allclose(model.apply(variables, images, train=False), expected, rtol=1e-6)


def test_each_file_has_the_preprocessing_and_a_method_of_its_format(tmp_path):
    trunk = {c: {"backbone": tree["backbone"]} for c, tree in VARIABLES.items()}
    swav = published.swav(VARIABLES)
    encoders = [published.momentum_contrast(swav, f"encoder_{which}") for which in "qk"]
    bare = published.renamed(published.swav(trunk), ("^module.", ""))
    for name, tensors, std, method in (
        ("published", published.swav(VARIABLES, SETS), 0.228, "swav"),
        ("head", swav, 0.228, "simclr"),
        ("moco", encoders[0] | encoders[1], 0.229, "moco"),
        ("torchvision", bare, 0.229, "swav"),
    ):
        config = settings_of_file(saved(tmp_path / f"{name}.safetensors", tensors))
        assert config.augment.std == (std, 0.224, 0.225), name
        assert config.augment.mean == (0.485, 0.456, 0.406)
        assert config.method.name == method and config.model.dtype == "float32"


def test_a_workdir_with_a_run_stays_as_it_is(file, tmp_path):
    config = settings_of_file(file)
    config.init_from = file
    import_weights(config, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="holds a run already"):
        import_weights(config, tmp_path / "run")
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_a_file_that_cannot_be_used_leaves_no_workdir(file, tmp_path):
    config = settings_of_file(file)
    config.init_from = str(tmp_path / "cut.safetensors")
    content = (tmp_path / "swav.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-100])
    with pytest.raises(WeightsError, match="is damaged"):
        import_weights(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"needs --config\.init_from=FILE"):
        settings_of_file("")


def test_the_command_takes_settings_from_the_file_and_flags(tmp_path):
    _, variables, sets = published.network()
    file = saved(tmp_path / "swav.safetensors", published.swav(variables, sets))
    flags = "--config.augment.std=(0.1,0.2,0.3)", "--config.init_parts=backbone,head"
    workdir = tmp_path / "run"
    succeed(workdir, launch(workdir, "--task=import", f"--config.init_from={file}", *flags))
    said = (tmp_path / "run.log").read_text()
    assert "init_parts leaves it out: module.prototypes" in said
    config = json.loads((workdir / "config.json").read_text())
    assert config["augment"]["std"] == [0.1, 0.2, 0.3] and config["model"]["dim"] == 8
