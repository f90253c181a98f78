import csv
import shutil

import numpy as np
import pytest
from images import smooth
from sklearn.decomposition import PCA

from swav_jax.config import ConfigError
from swav_jax.tasks.curate import curate_task
from swav_jax.tasks.embed import embed_task
from swav_jax.trained import settings_of
from swav_jax.workdir import read_results


@pytest.fixture
def many(tmp_path):
    """Sixteen images, and three copies of one of them."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(16):
        smooth(number, 20, 30).save(folder / f"{number:02}.png")
    for name in ("copy1.png", "copy2.png", "copy3.png"):
        shutil.copy(folder / "04.png", folder / name)
    return folder


def settings(workdir, images, **more):
    config = settings_of(workdir)
    config.eval.update(data_dir=str(images), **more)
    return config


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def most_remote(workdir, config):
    """The single image with the largest mean distance to the ten nearest others, by numpy."""
    embed_task(config, workdir)
    found = np.load(workdir / "embeddings.npz")
    single = np.flatnonzero(["copy" not in path for path in found["paths"]])
    x = PCA(8, whiten=True, svd_solver="full").fit_transform(found["embeddings"])[single]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    distance = np.sort(1 - x @ x.T, axis=1)[:, 1:11].mean(axis=1)
    return found["paths"][single[distance.argmax()]], distance.max()


def test_duplicates_outliers_and_a_subset(workdir, many):
    config = settings(workdir, many, subset=6, outlier_share=0.05)
    curate_task(config, workdir)
    rows = table(workdir / "duplicates.csv")
    names = [row["path"].rpartition("/")[2] for row in rows]
    assert names == ["04.png", "copy1.png", "copy2.png", "copy3.png"]
    assert [(row["group"], row["keep"]) for row in rows] == [("0", "1"), *[("0", "0")] * 3]
    (outlier,) = table(workdir / "outliers.csv")
    far = most_remote(workdir, config)
    assert (outlier["path"], float(outlier["score"])) == (far[0], pytest.approx(far[1], abs=1e-3))
    subset = (workdir / "subset.txt").read_text().splitlines()
    assert len(set(subset)) == 6 and not any("copy" in path for path in subset)
    results = read_results(workdir)["curate"]
    assert [results[n] for n in ("curated", "duplicate_groups", "duplicates")] == [19, 1, 3]
    assert (results["outliers"], results["subset"]) == (1, 6)
    assert len(list(many.iterdir())) == 19

    config.eval.update(data_dir="", images=str(workdir / "subset.txt"))
    embed_task(config, workdir)
    assert np.load(workdir / "embeddings.npz")["paths"].tolist() == subset


def test_maps_of_a_stage_are_compared_by_their_means(workdir, many):
    curate_task(settings(workdir, many), workdir)
    by_pooled = (workdir / "duplicates.csv").read_bytes()
    (workdir / "duplicates.csv").unlink()
    curate_task(settings(workdir, many, layer="c2"), workdir)  # which this network pools
    assert (workdir / "duplicates.csv").read_bytes() == by_pooled
    assert "c2_mean" in read_results(workdir)["curate"]["protocol"]
    kept = [np.load(path) for path in (workdir / "features").rglob("*.npy")]
    assert [rows.shape for rows in kept] == [(19, 16)] * 2  # no map was kept


def test_one_image(workdir, many, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copy(many / "04.png", tmp_path / "one")
    curate_task(settings(workdir, tmp_path / "one", subset=1), workdir)
    assert table(workdir / "duplicates.csv") == table(workdir / "outliers.csv") == []
    assert (workdir / "subset.txt").read_text() == f"{tmp_path}/one/04.png\n"


def test_subsets_larger_than_the_data_are_refused(workdir, many):
    with pytest.raises(ConfigError, match=r"eval\.subset is 17, but of 19 images 16 are no dup"):
        curate_task(settings(workdir, many, subset=17), workdir)


def test_a_threshold_that_is_too_low_is_said(workdir, many, caplog):
    config = settings(workdir, many)
    config.eval.duplicate_threshold = 0.1
    curate_task(config, workdir)
    assert "Raise it, towards 1" in caplog.text
