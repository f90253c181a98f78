"""Checkpoints that the reference's own code wrote, if GOLDEN_DIR has any, give its numbers."""

import jax
import numpy as np
import pytest
from golden_files import GOLDEN_DIR, golden

from swav_jax.augment.photometric import normalise
from swav_jax.checkpoints.read import load_variables
from swav_jax.run import make_encoder
from swav_jax.tasks.import_weights import import_weights, settings_of_file

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
