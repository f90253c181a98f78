import pytest

from swav_jax.data.sources.splits import is_held_out, is_train


@pytest.mark.parametrize(
    "name",
    ["train", "Train", "TRAINING", "training_set", "seg_train", "trainset", "train2017", "trainA"],
)
def test_names_of_training_images(name):
    assert is_train(name) and not is_held_out(name)


@pytest.mark.parametrize(
    "name",
    ["val", "valid", "Validation", "test", "testing", "TEST_SET", "seg_test", "val2017", "testB"],
)
def test_names_of_held_out_images(name):
    assert is_held_out(name) and not is_train(name)


@pytest.mark.parametrize("name", ["trainers", "contest", "valley", "devil", "restrain", "disc", ""])
def test_names_of_classes(name):
    assert not is_held_out(name) and not is_train(name)


@pytest.mark.parametrize(
    "name", ["test", "test_set", "TestImages", "val2017", "testA", "valid_data"]
)
def test_names_that_say_nothing_but_held_out(name):
    assert is_held_out(name, wholly=True)


@pytest.mark.parametrize("name", ["test_tube", "crash-test", "train", "devtools test"])
def test_names_that_may_be_classes(name):
    assert not is_held_out(name, wholly=True)
