import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from images import smooth
from tiny import tiny_swav

from swav_jax import features as features_lib
from swav_jax import images as images_lib
from swav_jax import train
from swav_jax.data.sources.source import DataError
from swav_jax.evals.features import embed_images
from swav_jax.features import features
from swav_jax.images import open_split
from swav_jax.trained import at_random, open_trained, settings_of


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(23):
        smooth(number, 20, 30).save(folder / f"{number:02}.png")
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:200])
    (folder / "22.png").write_bytes(b"")
    config = tiny_swav()
    config.data.update(name="folder", data_dir=str(folder), max_bad_fraction=0.2)
    config.method.freeze_prototypes_steps, config.train.steps = 1, 1
    config.eval.batch_size = 8
    workdir = folder.parent / "run"
    train.pretrain(config, workdir)
    return open_trained(settings_of(workdir), workdir)


def test_features_are_computed_once(trained, monkeypatch):
    images = trained.images()
    first = features(trained, images)
    assert first.shape == (23, 16) and first.dtype == np.float32
    assert images.source.unreadable == {5, 22}
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(first).all(axis=1)), [5, 22])
    embedding = features(trained, images, "embedding")
    np.testing.assert_allclose(np.linalg.norm(np.delete(embedding, [5, 22], 0), axis=1), 1, 1e-5)

    monkeypatch.setattr(features_lib, "embed_images", None)
    again = trained.images()
    np.testing.assert_array_equal(features(trained, again), first)
    assert again.source.unreadable == {5, 22}
    with pytest.raises(TypeError):
        features(at_random(trained), images)  # another network
    path = images.source.describe(3)
    smooth(99, 20, 30).save(path)
    with pytest.raises(TypeError):
        features(trained, trained.images())  # another image


def test_an_image_that_can_be_read_by_now_is_read(trained):
    path = trained.images().source.describe(7)
    good, when = Path(path).read_bytes(), os.stat(path)
    os.utime(path, ns=(0, 0))
    whole = features(trained, trained.images())
    Path(path).write_bytes(good[:100])
    os.utime(path, ns=(1, 1))
    damaged = trained.images()
    assert np.isnan(features(trained, damaged)[7]).all() and 7 in damaged.source.unreadable
    Path(path).write_bytes(good)
    os.utime(path, ns=(1, 1))  # as where a package that reads it has been installed
    again = trained.images()
    np.testing.assert_allclose(features(trained, again), whole, atol=1e-5)
    assert again.source.unreadable == {5, 22}
    Path(path).write_bytes(b"")  # what was read is kept
    os.utime(path, ns=(1, 1))
    np.testing.assert_allclose(features(trained, trained.images()), whole, atol=1e-5)
    Path(path).write_bytes(good)
    os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))


@pytest.mark.parametrize("left", [0, 50, -1])
def test_a_piece_that_a_power_cut_left_short_is_computed_again(trained, left):
    whole = features(trained, trained.images(), "embedding")
    for piece in (trained.workdir / "features").glob("*/*.npy"):
        piece.write_bytes(piece.read_bytes()[:left])
    np.testing.assert_array_equal(features(trained, trained.images(), "embedding"), whole)


def test_features_of_a_replaced_file_and_of_another_random_network_are_others(trained, tmp_path):
    config = trained.config.copy_and_resolve_references()
    config.eval.update(data_name="npz", data_dir=str(tmp_path / "images.npz"), train="train")
    network, rng = dataclasses.replace(trained, config=config), np.random.default_rng(0)
    found = []
    for when in (1, 2):
        images = rng.integers(0, 256, (3, 24, 24, 3), np.uint8)
        np.savez(config.eval.data_dir, train=images)
        os.utime(config.eval.data_dir, ns=(when, when))
        found.append(features(network, network.images()))
    assert (found[0] != found[1]).any(axis=1).all()
    config.model.prototypes += 1
    assert at_random(network).identity != at_random(trained).identity


def test_too_many_unreadable_images_are_refused_from_what_is_kept_too(trained):
    images = trained.images()
    features(trained, images)
    strict = dataclasses.replace(trained.images(), max_bad_fraction=0.05)
    with pytest.raises(
        DataError, match=r"2 of 23 images cannot be read: .*05\.png .* allows 1\.15 of them"
    ):
        features(trained, strict)


def test_what_another_process_could_not_read_is_known_where_nothing_is_kept(trained, monkeypatch):
    rows = np.ones((23, 16), np.float32)
    rows[4] = np.nan  # this process has not met it
    monkeypatch.setattr(features_lib, "of_images", lambda *_: rows)
    images = trained.images()
    source = dataclasses.replace(images.source, lasting=False)
    features(trained, dataclasses.replace(images, source=source))
    assert source.unreadable == {4}


def test_a_kill_costs_what_was_not_written(trained, monkeypatch):
    images, begun = trained.images(), []
    whole = features(at_random(trained), images, "embedding")

    def recorded(apply, variables, images, first):
        begun.append(first)
        for number, batch in enumerate(embed_images(apply, variables, images, first)):
            if number == 2 and not first:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(features_lib, "embed_images", recorded)
    monkeypatch.setattr(features_lib, "PIECE", 8)
    monkeypatch.setattr(features_lib, "FEATURES", "others")
    network = at_random(trained)
    with pytest.raises(KeyboardInterrupt):
        features(network, images, "embedding")
    np.testing.assert_array_equal(features(network, images, "embedding"), whole)
    assert begun == [0, 16]


def test_all_images_of_another_folder_are_meant(trained, tmp_path):
    for number, name in enumerate(("train", "test", "cat")):
        (tmp_path / name).mkdir()
        smooth(number, 20, 30).save(tmp_path / name / "a.png")
    config = trained.config.copy_and_resolve_references()
    config.eval.data_dir = str(tmp_path)
    assert dataclasses.replace(trained, config=config).images().source.size == 3
    config.eval.images = "cat"
    assert dataclasses.replace(trained, config=config).images().source.size == 1


def test_images_of_a_numpy_file_are_called_by_its_absolute_path(trained, tmp_path, monkeypatch):
    config = trained.config.copy_and_resolve_references()
    config.eval.update(data_name="npz", data_dir="images.npz", train="train")
    np.savez(tmp_path / "images.npz", train=np.zeros((2, 20, 20, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    source = dataclasses.replace(trained, config=config).images().source
    assert source.name(1) == f"{tmp_path / 'images.npz'} train 1"


def test_training_images_are_opened_once(trained, monkeypatch):
    opened = []
    monkeypatch.setattr(
        images_lib, "open_split", lambda *how: opened.append(how) or open_split(*how)
    )
    config = trained.config.copy_and_resolve_references()
    config.eval.test = "."
    network = dataclasses.replace(trained, config=config)
    assert network.train_images is network.train_images
    assert network.test_images().source.size == network.train_images.source.size
    assert len(opened) == 2
