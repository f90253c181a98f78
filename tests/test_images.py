import pytest
from images import smooth
from tiny import tiny_config

from swav_jax.data.sources.source import MissingSplit
from swav_jax.images import on_evaluated_images, on_own_folder, open_test_images


def test_a_recipe_for_a_data_set_takes_a_folder_of_images_by_its_name_alone(tmp_path):
    config = tiny_config()
    config.data.name, config.data.train, config.data.test = "tfds:photos", "train[:20%]", "test"
    config.data.data_dir, config.eval.train = str(tmp_path), "train[20%:]"
    assert on_own_folder(config) is config  # an empty folder: the data set is not there
    (tmp_path / "train" / "ant").mkdir(parents=True)
    smooth(0, 20, 20).save(tmp_path / "train" / "ant" / "0.png")
    found = on_own_folder(config)
    data = found.data
    assert (data.name, data.train, data.test) == ("folder", "train", "test")
    assert found.eval.train == "train"
    assert config.data.name == "tfds:photos"  # as it was given

    (tmp_path / "photos" / "1.0.0").mkdir(parents=True)
    (tmp_path / "photos" / "1.0.0" / "dataset_info.json").touch()
    assert on_own_folder(config) is config  # images lie beside data sets that TFDS has prepared


def test_evaluations_name_their_own_images(tmp_path):
    smooth(0, 9, 9).save(tmp_path / "a.png")
    config = tiny_config()
    config.data.name, config.data.data_dir = "tfds:photos", "prepared"
    config.data.train, config.data.test, config.data.label_key = "train[:20%]", "validation", "kind"
    assert on_evaluated_images(config) == config

    config.eval.train, config.eval.test = "train", "test[:9]"
    data = on_evaluated_images(config).data
    assert (data.train, data.test, data.name) == ("train", "test[:9]", "tfds:photos")
    assert data.label_key == "kind"

    config.eval.train, config.eval.data_dir = "", str(tmp_path)
    data = on_evaluated_images(config).data
    assert (data.name, data.data_dir) == ("folder", str(tmp_path))
    assert (data.train, data.test, data.label_key) == ("train", "test[:9]", "")
    assert data.eval_crop == 16

    config.eval.data_name, config.data.eval_resize, config.data.eval_crop = "tfds:birds", 0, 0
    data = on_evaluated_images(config).data
    assert (data.name, data.eval_resize, data.eval_crop) == ("tfds:birds", 16, 16)


def test_a_split_that_is_asked_for_must_be_there(tmp_path):
    (tmp_path / "train").mkdir()
    smooth(0, 9, 9).save(tmp_path / "train" / "a.png")
    config = tiny_config()
    config.data.update(name="folder", data_dir=str(tmp_path), train="train", test="test")
    assert open_test_images(on_evaluated_images(config)) is None
    config.eval.test = "tset"
    with pytest.raises(MissingSplit, match="tset"):
        open_test_images(on_evaluated_images(config))
