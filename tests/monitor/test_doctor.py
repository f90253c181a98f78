import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import LN_K, history, small

from swav_jax.methods.contract import Sizes, TrainState
from swav_jax.monitor.doctor import Diverged, Doctor, nonfinite_leaves, variance_ratio

# ---- do the images differ? ----------------------------------------------------------------------


def test_variance_ratio_is_fishers_f():
    from scipy.stats import f_oneway

    statistics = np.random.default_rng(0).normal(size=(40, 5, 6))
    statistics += np.random.default_rng(1).normal(size=(40, 1, 6))
    expected = np.mean([f_oneway(*statistics[:, :, i]).statistic for i in range(6)])
    assert variance_ratio(statistics) == pytest.approx(expected)


def crops(images, seed):
    """Two crops of 8 x 8 from each image [b, 16, 16, 3]."""
    random = np.random.default_rng(seed)
    cut = [
        [i[y : y + 8, x : x + 8] for y, x in random.integers(0, 9, (2, 2))]
        for i in np.asarray(images, np.uint8)
    ]
    return (np.asarray(cut),)


@pytest.mark.parametrize("different", [True, False])
def test_identical_images_are_seen_in_the_first_batches(tmp_path, different):
    random = np.random.default_rng(0)
    doctor = Doctor(tmp_path, small(), Sizes(1500, 128, 2, 11, 220))
    texture = random.integers(0, 40, (16, 16, 3)) + 2 * np.arange(16)[:, None, None]
    for seed in range(4):
        brightness = random.integers(0, 100, (128, 1, 1, 1)) * different
        doctor.look(crops(texture + brightness, seed))
    for line in history(loss=LN_K):
        doctor.observe(line.pop("step"), line)
    doctor.close()
    page = (tmp_path / "doctor.md").read_text()
    assert ("The images do not differ" in page) is not different
    assert ("The loss is stuck at ln K" in page) is different


def test_a_single_image_is_not_different(tmp_path):
    doctor = Doctor(tmp_path, small(), Sizes(1, 1, 2, 1, 220))
    doctor.look(crops(np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3)), 0))
    for line in history(loss=LN_K):
        doctor.observe(line.pop("step"), line)
    doctor.close()
    assert "The images do not differ" in (tmp_path / "doctor.md").read_text()


# ---- the live doctor ----------------------------------------------------------------------------


def watch(tmp_path, lines, **settings):
    doctor = Doctor(tmp_path, small(**settings), Sizes(1500, 128, 6, 11, 220))
    for line in lines:
        doctor.observe(line["step"], {k: jnp.float32(v) for k, v in line.items() if k != "step"})
    return doctor


def test_a_healthy_run_gets_a_clean_page(tmp_path):
    watch(tmp_path, history()).close()
    page = (tmp_path / "doctor.md").read_text()
    assert page.startswith("# Doctor's report after step 220 of 220\n\nNothing was found.")
    assert "- Training does not wait for data.\n" in page
    assert (
        "- The loss does not rise once the queue is used. (not checked: no loss, queue_used)"
    ) in page


def test_a_finding_is_told_once_and_written_at_once(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("absl.logging.warning", lambda text, *args: told.append(text % args))
    doctor = watch(tmp_path, history(loss=LN_K))
    assert len(told) == 1
    assert "The loss is stuck at ln K" in told[0]
    assert "--config.method.epsilon=0.008" in told[0]
    page = (tmp_path / "doctor.md").read_text()
    assert page.startswith("# Doctor's report after step 66 of 220")  # four lines after settling
    doctor.close()
    page = (tmp_path / "doctor.md").read_text()
    assert page.startswith(
        "# Doctor's report after step 220 of 220\n\n## The loss is stuck at ln K"
    )
    assert "- `--config.method.epsilon=0.008` (now 0.02)\n" in page
    assert "Nothing was found" not in page


def test_a_resumed_run_has_its_history(tmp_path):
    lines = history(loss=LN_K)
    text = "".join(json.dumps(line) + "\n" for line in lines[:-1])
    (tmp_path / "metrics.jsonl").write_text(text)
    watch(tmp_path, lines[-1:]).close()
    assert "stuck at ln K" in (tmp_path / "doctor.md").read_text()


def test_findings_outlast_the_process_that_made_them(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("absl.logging.warning", lambda text, *args: told.append(text % args))
    lines = history(loss=LN_K)
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    watch(tmp_path, lines[-1:]).close()
    page = (tmp_path / "doctor.md").read_text()
    assert "stuck at ln K" in page
    watch(tmp_path, []).close()  # a run that had nothing left to do
    assert (tmp_path / "doctor.md").read_text() == page and len(told) == 1
    (tmp_path / "metrics.jsonl").write_text(json.dumps(lines[0]) + "\n")
    watch(tmp_path, []).close()  # it went back before the step of the finding
    assert "Nothing was found" in (tmp_path / "doctor.md").read_text()
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    watch(tmp_path, []).close()  # nor does it come back when that step is passed
    assert "Nothing was found" in (tmp_path / "doctor.md").read_text()


def test_other_hosts_write_nothing(tmp_path):
    doctor = Doctor(tmp_path, small(), Sizes(1500, 128, 6, 11, 220), active=False)
    for line in history(loss=LN_K):
        doctor.observe(line.pop("step"), line)
    doctor.close()
    assert list(tmp_path.iterdir()) == []


# ---- not finite ---------------------------------------------------------------------------------


def a_state(scale=1.0):
    return TrainState(
        step=jnp.int32(4),
        params={"backbone": {"conv1": scale * jnp.ones((2, 2))}, "prototypes": scale * jnp.ones(3)},
        batch_stats={"bn1": jnp.ones(2)},
        opt_state=(),
        extra={"queue": scale * jnp.ones((2, 3)), "key": jax.random.key(0)},
    )


def test_nonfinite_leaves_names_leaves_in_order():
    state = a_state()
    assert nonfinite_leaves(state) == []
    state.params["prototypes"] = jnp.asarray([1.0, jnp.inf, 0.0])
    assert nonfinite_leaves(state) == ["params/prototypes"]
    state.extra["queue"] = state.extra["queue"].at[1, 2].set(jnp.nan)
    assert nonfinite_leaves(state) == ["params/prototypes", "extra/queue"]


@pytest.mark.parametrize("active", [True, False])
def test_nan_stops_the_run_with_step_tensor_and_checkpoint(tmp_path, active):
    for name in ("22", "33", "37", "44", "33.damaged"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    doctor = Doctor(tmp_path, small(), Sizes(1500, 128, 6, 11, 220), active=active)
    fine = {"loss": jnp.float32(3.0), "gradient_norm": jnp.float32(1.0)}
    doctor.check(37, fine, a_state())
    state = a_state(jnp.nan)
    fine["first_bad"] = jnp.int32(4)  # two parameters, one statistic, two gradients, the new ones
    with pytest.raises(Diverged) as stopped:
        doctor.check(38, fine | {"gradient_norm": jnp.float32(jnp.nan)}, state)
    for text in (
        "gradient_norm became NaN or infinite in step 38.",
        "The first tensor to be so in that step: gradients/prototypes.",
        "By now: params/backbone/conv1 (of 2 bad ones), extra/queue (of 1 bad ones).",
        f"The last good checkpoint: {tmp_path / 'checkpoints' / '33'}.",
        "`--config.optim.base_lr=0.36` (now 2.0)",
    ):
        assert text in str(stopped.value)
        assert not active or text in (tmp_path / "doctor.md").read_text()
    assert (tmp_path / "doctor.md").exists() is active


def test_a_step_that_overflows_parameters_is_not_saved(tmp_path):
    doctor = Doctor(tmp_path, small(), Sizes(1500, 128, 6, 11, 220), active=True)
    metrics = {"loss": jnp.float32(3.0), "gradient_norm": jnp.float32(1e30)}
    doctor.check(37, metrics | {"first_bad": jnp.int32(-1)}, a_state())
    with pytest.raises(Diverged, match=r"in step 38.* params after the step/backbone/conv1"):
        doctor.check(38, metrics | {"first_bad": jnp.int32(5)}, a_state(jnp.inf))
