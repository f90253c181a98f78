import contextlib
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swav_jax import config as config_lib
from swav_jax.doctor import RULES, Diverged, Doctor, Facts, examine, first_nonfinite, variance_ratio
from swav_jax.methods.contract import Run, TrainState

RECORDED = json.loads((Path(__file__).parent / "recorded_runs.json").read_text())
LN_K = math.log(60)
HEALTHY = {
    "loss": 3.2,
    "lr": 1.0,
    "gradient_norm": 1.0,
    "code_entropy": 1.5,
    "largest_code": 0.4,
    "prototypes_used": 0.95,
    "embedding_std": 0.7,
    "marginal_residual": 0.2,
    "images_per_second": 300.0,
    "data_wait_share": 0.05,
}


def small(**settings):
    """The configuration that the recorded runs had: SwAV on digits, LARC, 60 prototypes."""
    config = config_lib.defaults("swav")
    config.data.name = "digits"
    config.data.batch_size, config.train.epochs = 128, 20
    config.data.crops = ((2, 32, 0.4, 1.0), (4, 16, 0.1, 0.4))
    config.model.arch, config.model.stem, config.model.dtype = "resnet18_thin", "cifar", "float32"
    config.model.head_hidden, config.model.dim, config.model.prototypes = 128, 32, 60
    config.method.epsilon, config.method.freeze_prototypes_steps = 0.02, 11
    config.optim.base_lr, config.optim.final_lr, config.optim.warmup_epochs = 2.0, 0.002, 1.0
    config.update_from_flattened_dict(settings)
    return config


def facts(ratio=3.0, **settings):
    """Those of that run: 11 steps an epoch, settled at step 33."""
    return Facts(small(**settings), Run(1500, 128, 6, 11, 220), ratio)


def history(lines=20, every=11, **metrics):
    """A line every 11 steps; a metric is a number, or a function of the step."""
    metrics = HEALTHY | metrics
    return [
        {"step": s} | {name: v(s) if callable(v) else v for name, v in metrics.items()}
        for s in range(0, lines * every, every)
    ]


def names(findings):
    return [finding.name for finding in findings]


def found(facts_, **metrics):
    return names(examine(history(**metrics), facts_))


QUEUE = {"method.queue_length": 256, "method.queue_start_epoch": 5}


def queue_from(step):
    return lambda s: float(s >= step)


AILING = {
    "not_finite": (facts(), {"gradient_norm": lambda s: math.nan if s == 110 else 1.0}),
    "identical_images": (facts(ratio=1.1), {"loss": LN_K}),
    "wild_learning_rate": (facts(**{"optim.base_lr": 100.0}), {"loss": LN_K}),
    "more_prototypes_than_images": (facts(**{"model.prototypes": 1501}), {}),
    "uniform_codes": (facts(), {"code_entropy": 0.97 * LN_K}),
    "collapsed_embedding": (facts(), {"embedding_std": 0.01}),
    "dead_prototypes": (facts(), {"prototypes_used": 0.2}),
    "stuck": (facts(), {"loss": lambda s: LN_K + 1.2 * math.exp(-s / 11)}),
    "queue_hurts": (
        facts(**QUEUE),
        {"queue_used": queue_from(88), "loss": lambda s: 3 + (s >= 88)},
    ),
    "starved": (facts(), {"data_wait_share": 0.4}),
}

NEARLY = {
    # a metric of another method that is undefined now and then
    "not_finite": (facts(), {"agreement": math.nan}),
    # all alike, and yet something is learned
    "identical_images": (facts(ratio=1.1), {}),
    # a high rate that works
    "wild_learning_rate": (facts(**{"optim.base_lr": 100.0}), {}),
    "more_prototypes_than_images": (facts(**{"model.prototypes": 1500}), {"prototypes_used": 0.08}),
    # soft codes early in training
    "uniform_codes": (facts(), {"code_entropy": lambda s: (0.97 if s < 33 else 0.8) * LN_K}),
    "collapsed_embedding": (facts(), {"embedding_std": lambda s: 0.01 if s < 33 else 0.2}),
    # 128 images cannot reach more than 12 % of 1,000 prototypes
    "dead_prototypes": (facts(**{"model.prototypes": 1000}), {"prototypes_used": 0.11}),
    # slow, but it moves
    "stuck": (facts(), {"loss": lambda s: 5.3 - 0.006 * s}),
    # a bump when the queue starts, gone within an epoch
    "queue_hurts": (
        facts(**QUEUE),
        {"queue_used": queue_from(88), "loss": lambda s: 3.5 - s / 300 + (88 <= s < 99)},
    ),
    # compilation and one slow line
    "starved": (facts(), {"data_wait_share": lambda s: 0.9 if s in (0, 110) else 0.05}),
}


def test_every_rule_is_tried_here():
    rules = [rule.judge.__name__ for group in RULES for rule in group]
    assert sorted(rules) == sorted(AILING) == sorted(NEARLY)


@pytest.mark.parametrize("name", AILING)
def test_an_ailment_is_named_and_nothing_else(name):
    run, metrics = AILING[name]
    findings = examine(history(**metrics), run)
    assert names(findings) == [name]
    assert findings[0].remedies


@pytest.mark.parametrize("name", NEARLY)
def test_a_healthy_run_that_comes_near_is_left_alone(name):
    run, metrics = NEARLY[name]
    assert found(run, **metrics) == []


@pytest.mark.parametrize("name", AILING)
def test_rules_are_silent_without_their_metrics(name):
    run, metrics = AILING[name]
    lines = [{"step": line["step"], "knn_top1": 50.0} for line in history(**metrics)]
    assert examine(lines, run) == []


def test_a_loss_that_bounces_at_a_wild_rate_is_that_rates_fault():
    bounces = {"loss": lambda s: 3.8 - 0.5 * (s < 66) + 0.1 * (s % 2)}
    assert found(facts(**{"optim.base_lr": 100.0}), **bounces) == ["wild_learning_rate"]
    assert found(facts(**{"optim.base_lr": 2.0}), **bounces) == []


def test_patience_at_the_start():
    stuck = history(loss=LN_K)
    settled = facts().settled
    assert settled == 33
    early = [line for line in stuck if line["step"] < settled]
    assert examine(early, facts()) == []


def test_evidence_has_numbers_and_steps_and_remedies_have_keys_and_values():
    (finding,) = examine(history(code_entropy=4.0), facts())
    assert finding.evidence == (
        "Code entropy is 4.000 nats of at most ln K = 4.094 (steps 110 to 209)."
    )
    assert finding.remedies == (
        "`--config.method.epsilon=0.008` (now 0.02)",
        "`--config.method.freeze_prototypes_steps=22` (now 11)",
        '`--config.data.crops="((2, 32, 0.8, 1.0), (4, 16, 0.2, 0.4))"` '
        "(now ((2, 32, 0.4, 1.0), (4, 16, 0.1, 0.4)))",
    )


@pytest.mark.parametrize("name", AILING)
def test_suggested_flags_give_configurations_that_pass_the_checks(name):
    run, metrics = AILING[name]
    for finding in examine(history(**metrics), run):
        assert finding.remedies
        for remedy in finding.remedies:
            if not remedy.startswith("`--config."):
                continue
            key, value = remedy.split("`")[1].removeprefix("--config.").split("=")
            with contextlib.suppress(NameError):  # a word, such as float32
                value = eval(value.strip('"'), {})
            config = small()
            config.update_from_flattened_dict({key: value})
            config_lib.check(config, devices=1)


def test_the_slow_stage_of_a_starved_run_is_named():
    slow = {"data_wait_share": 0.5, "read_seconds": 0.03, "crop_seconds": 0.002}
    (finding,) = examine(history(**slow), facts())
    assert "The slow stage is reading and decoding" in finding.evidence
    slow = {"data_wait_share": 0.5, "read_seconds": 0.001, "crop_seconds": 0.002}
    (finding,) = examine(history(**slow), facts())
    assert "The slow stage is cropping" in finding.evidence


# ---- recorded runs ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_runs_are_judged_rightly_at_every_moment(name):
    record = RECORDED[name]
    lines = [dict(zip(record["metrics"], row, strict=True)) for row in record["lines"]]
    run = Facts(small(**record["settings"]), Run(*record["run"]), record["variance_ratio"])
    ever = {n for end in range(len(lines)) for n in names(examine(lines[: end + 1], run))}
    assert ever == set(record["findings"])


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
    doctor = Doctor(tmp_path, small(), Run(1500, 128, 2, 11, 220))
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


# ---- the live doctor ----------------------------------------------------------------------------


def watch(tmp_path, lines, **settings):
    doctor = Doctor(tmp_path, small(**settings), Run(1500, 128, 6, 11, 220))
    for line in lines:
        doctor.observe(line["step"], {k: jnp.float32(v) for k, v in line.items() if k != "step"})
    return doctor


def test_a_healthy_run_gets_a_clean_page(tmp_path):
    watch(tmp_path, history()).close()
    page = (tmp_path / "doctor.md").read_text()
    assert page.startswith("# Doctor's report after step 210 of 220\n\nNothing was found.")
    assert "- Training does not wait for data.\n" in page
    assert (
        "- The loss does not rise when the queue comes into use. (not checked: no loss, queue_used)"
    ) in page


def test_a_finding_is_told_once_and_written_at_once(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("absl.logging.warning", lambda text, *args: told.append(text % args))
    doctor = watch(tmp_path, history(loss=LN_K))
    assert len(told) == 1
    assert "The loss is stuck at ln K" in told[0]
    assert "--config.method.epsilon=0.008" in told[0]
    page = (tmp_path / "doctor.md").read_text()
    assert page.startswith("# Doctor's report after step 67 of 220")  # four lines after settling
    doctor.close()
    page = (tmp_path / "doctor.md").read_text()
    assert page.startswith(
        "# Doctor's report after step 210 of 220\n\n## The loss is stuck at ln K"
    )
    assert "- `--config.method.epsilon=0.008` (now 0.02)\n" in page
    assert "Nothing was found" not in page


def test_a_resumed_run_has_its_history(tmp_path):
    lines = history(loss=LN_K)
    text = "".join(json.dumps(line) + "\n" for line in lines[:-1])
    (tmp_path / "metrics.jsonl").write_text(text)
    watch(tmp_path, lines[-1:]).close()
    assert "stuck at ln K" in (tmp_path / "doctor.md").read_text()


def test_other_hosts_write_nothing(tmp_path):
    doctor = Doctor(tmp_path, small(), Run(1500, 128, 6, 11, 220), active=False)
    for line in history(loss=LN_K):
        doctor.observe(line.pop("step"), line)
    doctor.close()
    assert list(tmp_path.iterdir()) == []


# ---- not finite ---------------------------------------------------------------------------------


def a_state(scale=1.0):
    return TrainState(
        step=jnp.int32(4),
        params={"backbone": {"conv1": scale * jnp.ones((2, 2))}, "prototypes": scale * jnp.ones(3)},
        batch_stats={},
        opt_state=(),
        extra={"queue": scale * jnp.ones((2, 3)), "key": jax.random.key(0)},
    )


def test_first_nonfinite_names_leaves_in_order():
    state = a_state()
    assert first_nonfinite(state) == []
    state.params["prototypes"] = jnp.asarray([1.0, jnp.inf, 0.0])
    assert first_nonfinite(state) == ["params/prototypes"]
    state.extra["queue"] = state.extra["queue"].at[1, 2].set(jnp.nan)
    assert first_nonfinite(state) == ["params/prototypes", "extra/queue"]


@pytest.mark.parametrize("active", [True, False])
def test_nan_stops_the_run_with_step_tensor_and_checkpoint(tmp_path, active):
    for name in ("22", "33", "37", "44", "33.damaged"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    doctor = Doctor(tmp_path, small(), Run(1500, 128, 6, 11, 220), active=active)
    fine = {"loss": jnp.float32(3.0), "gradient_norm": jnp.float32(1.0)}
    doctor.check(36, fine, a_state())
    state = a_state(jnp.nan)
    fine["first_bad"] = jnp.int32(3)  # of two parameters and two gradients
    with pytest.raises(Diverged) as stopped:
        doctor.check(37, fine | {"gradient_norm": jnp.float32(jnp.nan)}, state)
    for text in (
        "gradient_norm became NaN or infinite in step 37.",
        "The first tensor to be so in that step: gradients/prototypes.",
        "By now: params/backbone/conv1 (of 2 bad ones), extra/queue (of 1 bad ones).",
        f"The last good checkpoint: {tmp_path / 'checkpoints' / '33'}.",
        "`--config.optim.base_lr=0.36` (now 2.0)",
    ):
        assert text in str(stopped.value)
        assert not active or text in (tmp_path / "doctor.md").read_text()
    assert (tmp_path / "doctor.md").exists() is active
