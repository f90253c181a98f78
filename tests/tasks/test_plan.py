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
    assert found["tried"] == [
        f"--config.train.accumulate={parts} --config.train.remat={remat}"
        for parts in (1, 2)
        for remat in ("none", "block")
    ]
    assert found["needed_bytes_per_device"] == 20 * 2**30
    shown = capsys.readouterr().out
    assert "does not fit: needs 20.0 GiB" in shown
    assert "fits with --config.train.accumulate=4" in shown


def test_what_is_needed_is_said_if_the_compiler_says_it(tmp_path, here, monkeypatch):
    said = []
    monkeypatch.setattr("absl.logging.info", lambda text, *args: said.append(text % args))
    for problem in (TOO_LARGE, "RESOURCE_EXHAUSTED: out of memory"):
        here(lambda parts, text=problem: RuntimeError(text))
        task.plan_task(tiny_swav(), tmp_path, "v5e:2x2", 0.0)
    lines = {line for line in said if "not fit" in line}
    assert lines == {f"it does not fit: {much} 16.0 GiB" for much in ("20.0 of", "more than")}


def test_what_never_fits_is_said(tmp_path, here, capsys):
    here(lambda parts: RuntimeError(TOO_LARGE) if parts < 8 else ConfigError("no more parts"))
    task.plan_task(tiny_swav(), tmp_path, "v5e:2x2", 0.0)
    found = json.loads((tmp_path / "plan.json").read_text())
    assert not found["fits"] and "fits_with" not in found
    shown = capsys.readouterr().out
    assert "take more chips" in shown
    assert "not fit either with --config.train.accumulate=1 --config.train.remat=block, --" in shown


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
    assert [way.split()[0][-1] for way in tried] == ["1", "2", "4"]


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
