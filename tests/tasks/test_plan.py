import importlib.util
import json

import jax
import pytest
from tiny import tiny_swav

from swav_jax.config import ConfigError
from swav_jax.plan import compiled as plan
from swav_jax.tasks import plan as task

TOO_LARGE = (
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
    "required for HLO temporaries (20.00G) exceeds available HBM (15.75G)."
)


@pytest.mark.plan
@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs the TPU's compiler")
def test_a_small_run_fits(tmp_path, capsys):
    task.plan_task(tiny_swav(), tmp_path, "v5e:2x2", price_per_chip_hour=2.0)
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["fits"] and found["chips"] == 4 and found["images"] == 1500
    assert found["price"] == pytest.approx(found["hours"] * 4 * 2)
    assert found["hours"] == pytest.approx(93 * found["step_seconds"] / 3600)
    assert len(found["expensive_operations"]) == 5 and found["compile_seconds"] > 0
    assert "gradients all-reduce" in found["collectives"]
    assert "fits" in capsys.readouterr().out.splitlines()


@pytest.fixture
def here(monkeypatch):
    """Devices that are here in the place of a slice's; the compiler is asked by the test."""
    monkeypatch.setattr(task, "topology", lambda name: jax.devices()[:4])

    def compile_with(answer):
        def compile_step(config, devices, images, image_size):
            if problem := answer(config.train.accumulate):
                raise problem
            return plan.compile_step(config, devices, images, image_size)

        monkeypatch.setattr(task, "compile_step", compile_step)

    return compile_with


def test_what_does_not_fit_is_tried_in_more_parts(tmp_path, here, capsys):
    here(lambda parts: RuntimeError(TOO_LARGE) if parts < 4 else None)
    task.plan_task(tiny_swav(), tmp_path, "v5e:2x2", 0.0)
    found = json.loads((tmp_path / "plan.json").read_text())
    assert not found["fits"]
    assert found["fits_with"] == {"train.accumulate": 4, "train.remat": "none"}
    assert found["tried"] == {
        f"--config.train.accumulate={parts} --config.train.remat={remat}": 20 * 2**30
        for parts in (1, 2)
        for remat in ("none", "block")
    }
    shown = capsys.readouterr().out
    first = "does not fit with --config.train.accumulate=1 --config.train.remat=none"
    assert f"{first}: needs 20.0 GiB of 15.75 GiB" in shown
    assert "fits with --config.train.accumulate=4" in shown


def test_what_is_needed_is_said_if_the_compiler_says_it(tmp_path, here, monkeypatch):
    said = []
    monkeypatch.setattr("absl.logging.info", lambda text, *args: said.append(text % args))
    for problem in (TOO_LARGE, "RESOURCE_EXHAUSTED: out of memory"):
        here(lambda parts, text=problem: RuntimeError(text))
        task.plan_task(tiny_swav(), tmp_path, "v5e:2x2", 0.0)
    lines = {line for line in said if "not fit" in line}
    assert lines == {f"it does not fit: {much} 15.75 GiB" for much in ("20.0 of", "more than")}


def test_what_never_fits_is_said(tmp_path, here, capsys):
    here(lambda parts: RuntimeError(TOO_LARGE) if parts < 8 else ConfigError("no more parts"))
    task.plan_task(tiny_swav(), tmp_path, "v5e:2x2", 0.0)
    found = json.loads((tmp_path / "plan.json").read_text())
    assert not found["fits"] and "fits_with" not in found
    shown = capsys.readouterr().out
    assert "does not fit with --config.train.accumulate=1 --config.train.remat=block: " in shown
    assert shown.endswith("take more than twice the chips, or less than half of data.batch_size\n")
    assert list(found["tried"])[-1].endswith("--config.data.batch_size=8")


def test_what_fits_with_half_the_batch_is_said_with_its_hours(tmp_path, here, monkeypatch, capsys):
    here(lambda parts: None)
    compile_step = task.compile_step

    def too_large_for_whole_batches(config, *args):
        if config.data.batch_size == 16:
            raise RuntimeError(TOO_LARGE) if config.train.accumulate < 4 else ConfigError("parts")
        return compile_step(config, *args)

    monkeypatch.setattr(task, "compile_step", too_large_for_whole_batches)
    task.plan_task(tiny_swav(), tmp_path, "v5e:2x2", 0.0)
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["fits_with"]["data.batch_size"] == 8 and len(found["tried"]) == 4
    assert found["hours"] == pytest.approx(187 * found["step_seconds"] / 3600)
    shown = capsys.readouterr().out
    assert "batch 16" in shown and "twice the chips would do" in shown


def test_without_the_data_a_slice_of_a_known_set_has_its_share_of_images(tmp_path, monkeypatch):
    config = tiny_swav()
    config.data.name, config.data.data_dir = "tfds:cifar10", str(tmp_path)
    for split, images in {"train": 50_000, "train[:20%]": 10_000, "train[-30:]": 30}.items():
        config.data.train = split
        assert task._training_images(config) == (images, (32, 32))
    for split in ("test", "train[:1k]"):
        config.data.train = split
        with pytest.raises(ConfigError, match="only that of train"):
            task._training_images(config)


def test_what_fits_when_activations_are_computed_again_keeps_its_batch_whole(
    tmp_path, here, monkeypatch
):
    here(lambda parts: None)
    compile_step = task.compile_step

    def too_large_without_remat(config, *args):
        if config.train.remat == "none":
            raise RuntimeError(TOO_LARGE)
        return compile_step(config, *args)

    monkeypatch.setattr(task, "compile_step", too_large_without_remat)
    task.plan_task(tiny_swav(), tmp_path, "v5e:2x2", 0.0)
    found = json.loads((tmp_path / "plan.json").read_text())
    assert not found["fits"]
    assert found["fits_with"] == {"train.accumulate": 1, "train.remat": "block"}


def test_a_config_that_computes_again_already_is_tried_once_for_each_number_of_parts(
    tmp_path, here
):
    here(lambda parts: RuntimeError(TOO_LARGE) if parts < 8 else ConfigError("no more parts"))
    config = tiny_swav()
    config.train.remat = "block"  # each try counts once
    task.plan_task(config, tmp_path, "v5e:2x2", 0.0)
    tried = json.loads((tmp_path / "plan.json").read_text())["tried"]
    assert [way.split()[0][-1] for way in tried] == ["1", "2", "4", "1"]  # the last: half a batch


@pytest.mark.parametrize("problem", [ConfigError("data.batch_size 16 is"), ValueError("ours")])
def test_other_errors_are_not_about_memory(tmp_path, here, problem):
    here(lambda parts: problem)
    with pytest.raises(type(problem), match=str(problem)):
        task.plan_task(tiny_swav(), tmp_path, "v5e:2x2", 0.0)


@pytest.mark.parametrize("name", ["", "h100:8"])
def test_an_unknown_slice_is_one_line(tmp_path, name):
    with pytest.raises(ConfigError, match=r"name a slice .*like v5e:8x8"):
        task.plan_task(tiny_swav(), tmp_path, name, 0.0)


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_refused_before_anything_is_compiled(tmp_path, price):
    with pytest.raises(ConfigError, match="price_per_chip_hour"):
        task.plan_task(tiny_swav(), tmp_path, "v5e:2x2", price)
