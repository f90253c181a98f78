import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny import tiny_swav

import swav_jax
from swav_jax.answers import find_clusters
from swav_jax.config import ConfigError
from swav_jax.data.sources.source import DataError
from swav_jax.tasks.embed import embed_task
from swav_jax.trained import open_trained, settings_of


@pytest.fixture
def run(workdir):
    return swav_jax.load(workdir)


def files(photos):
    return sorted(path for path in photos.rglob("*.png") if path.name != "03.png")


def test_embed_is_the_task(run, workdir, photos):
    found = run.embed(photos)
    assert found.shape == (13, 16) and found.dtype == np.float32
    assert found.paths == [str(path) for path in files(photos)]
    config = settings_of(workdir)
    config.eval.data_dir = str(photos)
    embed_task(config, workdir)
    np.testing.assert_array_equal(found, np.load(workdir / "embeddings.npz")["embeddings"])
    assert found[:2].paths is None and run.embed(photos, layer="c2").shape == (13, 8, 8, 16)


def test_images_may_be_files_pictures_or_arrays(run, photos, tmp_path):
    whole, paths = run.embed(photos), files(photos)
    pictures = [Image.open(path) for path in paths]
    (tmp_path / "list.txt").write_text("\n".join(map(str, paths)))
    for images in (
        [str(path) for path in paths],
        str(tmp_path / "list.txt"),
        pictures,
        [np.asarray(picture) for picture in pictures],
        np.stack(pictures),
    ):
        np.testing.assert_allclose(run.embed(images), whole, rtol=1e-5, atol=1e-6)
    assert run.embed(pictures[:1]).paths == ["image 0"]


def test_preprocessing_gives_the_pixels_of_the_pipeline(run, photos):
    paths = files(photos)
    x = np.stack([run.preprocess(Image.open(path)) for path in paths])
    assert x.shape == (13, 16, 16, 3) and x.dtype == np.float32
    features = run.model.apply(run.variables, x, train=False)
    np.testing.assert_allclose(features, run.embed(paths), rtol=1e-5, atol=1e-6)


def test_pictures_of_any_mode_become_rgb(run, photos):
    picture = Image.open(files(photos)[0])
    grey = picture.convert("L")
    np.testing.assert_array_equal(run.preprocess(grey), run.preprocess(grey.convert("RGB")))
    clear = picture.copy()
    clear.putalpha(0)
    white = Image.new("RGB", picture.size, "white")
    np.testing.assert_array_equal(run.preprocess(clear), run.preprocess(white))


def test_pictures_of_more_than_8_bits_are_as_their_files_are(run, tmp_path):
    folder = tmp_path / "deep"
    folder.mkdir()
    for number, white in enumerate((900, 4000)):  # 12 bits, as the brightest of them says
        values = np.random.RandomState(number).randint(0, white, (20, 30)).astype(np.uint16)
        Image.fromarray(values).save(folder / f"{number}.png")
    pictures = [Image.open(path) for path in sorted(folder.iterdir())]
    np.testing.assert_allclose(run.embed(pictures), run.embed(folder), rtol=1e-5, atol=1e-6)


def test_clusters_are_those_of_the_task(run, workdir, photos, tmp_path):
    config = settings_of(workdir)
    config.eval.data_dir = str(photos)
    trained = open_trained(config, workdir)
    task = find_clusters(trained, trained.images()).table()
    table = run.clusters(photos)
    for name, column in task.columns.items():
        np.testing.assert_array_equal(table[name], column)
    assert len(set(run.clusters(photos, by="kmeans", clusters=3)["cluster"])) == 3
    table.to_csv(tmp_path / "clusters.csv")
    assert len((tmp_path / "clusters.csv").read_text().splitlines()) == 14


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        ([], "no images"),
        (np.zeros((0, 16, 16, 3), np.uint8), "no images"),
        (np.zeros((2, 16, 16, 3), np.float32), "array of uint8, not float32"),
        (np.zeros((2, 16, 16), np.uint8), r"\[H, W, 3\], not of the shape \(16, 16\)"),
        (["nowhere.png"], "1 of 1 files are not there: nowhere.png"),
        ("nowhere", "neither a folder nor a list of images at nowhere"),
    ],
)
def test_what_is_no_image_is_refused(run, images, complaint):
    with pytest.raises(DataError, match=complaint):
        run.embed(images)


def test_a_named_image_that_cannot_be_read_is_an_error(run, photos):
    with pytest.raises(DataError, match=r"03.png \(no image"):
        run.embed([photos / "cat/02.png", photos / "cat/03.png"])


def test_nothing_is_kept_of_images_in_memory(run, workdir):
    run.embed(np.zeros((1, 16, 16, 3), np.uint8))
    assert not (workdir / "features").exists()


def test_features_in_a_pipeline_of_scikit_learn(run, photos):
    paths = files(photos)
    labels = [path.parent.name for path in paths]
    pipeline = make_pipeline(FunctionTransformer(run.embed), LogisticRegression())
    pipeline.fit(paths, labels)
    assert set(pipeline.predict(paths[:3])) <= {"cat", "dog"}
    assert pipeline.score(paths, labels) > 0.6


def test_pretrain_takes_a_file_and_settings_by_name(tmp_path):
    file, workdir = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(
        "from tiny import tiny_config\n\n\ndef get_config():\n    return tiny_config('swav')\n"
    )
    settings = {"method.name": "simclr", "train.steps": 1, "optim.base_lr": 0.1}
    run = swav_jax.pretrain(file, workdir, **settings)
    assert (run.config.method.name, run.config.train.steps) == ("simclr", 1)
    assert len(run.clusters(np.zeros((1, 16, 16, 3), np.uint8), clusters=1)) == 1
    with pytest.raises(ConfigError, match="stepz"):
        swav_jax.pretrain(tiny_swav(), workdir, **{"train.stepz": 1})


PREPARED = """
import resource
import swav_jax

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"a" * 2**25  # 8,192 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

swav_jax.prepare_process()
import jax
pages()
print(pages(), jax.config.jax_compilation_cache_dir)
"""


def test_a_prepared_process_keeps_memory_and_compiled_programs(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)}
    run = [sys.executable, "-c", PREPARED]
    done = subprocess.run(run, check=True, capture_output=True, text=True, env=environment)
    pages, folder = done.stdout.split()
    assert int(pages) < 100
    assert folder.startswith(str(tmp_path))


def test_a_workdir_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OSError, match="choose another --workdir"):
        swav_jax.pretrain(tiny_swav(), tmp_path / "run")


def test_an_empty_workdir_is_not_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (partial(swav_jax.pretrain, tiny_swav()), swav_jax.load, swav_jax.report):
        with pytest.raises(NotADirectoryError, match="empty name"):
            use("")
    assert not list(tmp_path.iterdir())


def test_only_what_there_is_can_be_imported():
    with pytest.raises(AttributeError, match="no attribute 'lood'"):
        _ = swav_jax.lood
