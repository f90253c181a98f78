import contextlib
import json
import math
from pathlib import Path

import pytest
from small_run import LN_K, history, small

from swav_jax import config as config_lib
from swav_jax.limits import check
from swav_jax.methods.contract import Sizes
from swav_jax.monitor.history import History
from swav_jax.monitor.rules import RULES, Facts, examine

RECORDED = json.loads((Path(__file__).parent / "recorded_runs.json").read_text())


def facts(ratio=3.0, random_rank=12.4, **settings):
    """Those of the small run: 11 steps an epoch, settled at step 33."""
    return Facts(small(**settings), Sizes(1500, 128, 6, 11, 220), ratio, random_rank)


def past(**metrics):
    return History(history(**metrics))


def names(findings):
    return [finding.name for finding in findings]


def found(facts_, **metrics):
    return names(examine(past(**metrics), facts_))


QUEUE = {"method.queue_length": 256, "method.queue_start_epoch": 5}


OTHER = dict.fromkeys(("code_entropy", "prototypes_used"), math.nan)  # methods without codes


def queue_from(step):
    return lambda s: float(s >= step)


AILING = {
    "not_finite": (facts(), {"gradient_norm": lambda s: math.nan if s == 110 else 1.0}),
    "identical_images": (facts(ratio=1.1), {"loss": LN_K}),
    "wild_learning_rate": (facts(**{"optim.base_lr": 100.0}), {"loss": LN_K}),
    "more_prototypes_than_images": (facts(**{"model.prototypes": 1501}), {}),
    "uniform_codes": (facts(), {"code_entropy": 0.97 * LN_K}),
    "one_hot_codes": (facts(), {"code_entropy": 0.01 * LN_K}),
    "collapsed_embedding": (facts(), {"embedding_std": 0.01}),
    # as the quickstart at a learning rate of 100
    "collapsed_features": (facts(), {"quality_rankme": 6.2}),
    "dead_prototypes": (facts(), {"prototypes_used": 0.2}),
    "stuck": (facts(), {"loss": lambda s: LN_K + 1.2 * math.exp(-s / 11)}),
    "uneven_clusters": (facts(), {"clusters_used": 0.9, "largest_cluster": 0.7}),
    "clusters_not_learnt": (facts(), {"cluster_accuracy": 0.02, "loss": LN_K} | OTHER),
    "positives_not_found": (facts(**QUEUE), {"positive_accuracy": 0.01} | OTHER),
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
    # as asked for
    "one_hot_codes": (facts(**{"method.hard_codes": True}), {"code_entropy": 0.0}),
    "collapsed_embedding": (facts(), {"embedding_std": lambda s: 0.01 if s < 33 else 0.2}),
    # as the quickstart of DeepCluster
    "collapsed_features": (
        facts(random_rank=9.6),
        {"quality_rankme": lambda s: 5.7 if s < 33 else 16.0},
    ),
    # 128 images cannot reach more than 12 % of 1,000 prototypes
    "dead_prototypes": (facts(**{"model.prototypes": 1000}), {"prototypes_used": 0.11}),
    # slow, but it moves
    "stuck": (facts(), {"loss": lambda s: 5.3 - 0.006 * s}),
    "uneven_clusters": (facts(), {"clusters_used": 0.6, "largest_cluster": 0.3}),
    # new clusters, not yet learnt
    "clusters_not_learnt": (facts(), {"cluster_accuracy": 0.02, "loss": 0.95 * LN_K} | OTHER),
    "positives_not_found": (facts(**QUEUE), {"positive_accuracy": 0.02} | OTHER),
    # a bump when the queue starts, gone within an epoch
    "queue_hurts": (
        facts(**QUEUE),
        {"queue_used": queue_from(88), "loss": lambda s: 3.5 - s / 300 + (88 <= s < 99)},
    ),
    # compilation and one slow line
    "starved": (facts(), {"data_wait_share": lambda s: 0.9 if s in (11, 110) else 0.05}),
}


def test_every_rule_is_tried_here():
    rules = [rule.judge.__name__ for group in RULES for rule in group]
    assert sorted(rules) == sorted(AILING) == sorted(NEARLY)


@pytest.mark.parametrize("name", AILING)
def test_an_ailment_is_named_and_nothing_else(name):
    run, metrics = AILING[name]
    findings = examine(past(**metrics), run)
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
    assert examine(History(lines), run) == []


def test_a_loss_that_bounces_at_a_wild_rate_is_that_rates_fault():
    bounces = {"loss": lambda s: 3.8 - 0.5 * (s < 66) + 0.1 * (s % 2)}
    assert found(facts(**{"optim.base_lr": 100.0}), **bounces) == ["wild_learning_rate"]
    assert found(facts(**{"optim.base_lr": 2.0}), **bounces) == []


def test_steps_that_move_too_far_are_the_learning_rates_fault_with_any_optimiser():
    stuck = {"loss": LN_K, "parameter_norm": 50.0}
    run = facts(**{"optim.base_lr": 10.0})
    assert found(run, update_norm=2.0, **stuck) == ["wild_learning_rate"]
    assert found(run, update_norm=1.5, **stuck) == ["stuck"]
    assert found(run, update_norm=2.0, parameter_norm=50.0) == []
    (finding,) = examine(past(update_norm=2.0, **stuck), run)
    assert "moves the parameters by 4.0% of their norm" in finding.evidence
    assert finding.remedies == ("`--config.optim.base_lr=0.36` (now 10.0)",)


def test_lost_rank_is_a_wild_rates_fault_too_and_unknown_without_the_random_networks():
    lost = {"quality_rankme": 6.2}
    assert found(facts(**{"optim.base_lr": 100.0}), **lost) == ["wild_learning_rate"]
    assert found(facts(random_rank=None), **lost) == []


def test_patience_at_the_start():
    stuck = history(loss=LN_K)
    settled = facts().settled
    assert settled == 33
    early = [line for line in stuck if line["step"] < settled]
    assert examine(History(early), facts()) == []


def test_evidence_has_numbers_and_steps_and_remedies_have_keys_and_values():
    (finding,) = examine(past(code_entropy=4.0), facts())
    assert finding.evidence == (
        "Code entropy is 4.000 nats of at most ln K = 4.094 (steps 121 to 220)."
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
    for finding in examine(past(**metrics), run):
        assert finding.remedies
        for remedy in finding.remedies:
            if not remedy.startswith("`--config."):
                continue
            key, value = remedy.split("`")[1].removeprefix("--config.").split("=")
            with contextlib.suppress(NameError):  # a word, such as float32
                value = eval(value.strip('"'), {})
            config = small()
            config.update_from_flattened_dict({key: value})
            check(config, devices=1)


def test_the_slow_stage_of_a_starved_run_is_named():
    slow = {"data_wait_share": 0.5, "read_seconds": 0.03, "crop_seconds": 0.002}
    (finding,) = examine(past(**slow), facts())
    assert "The slow stage is reading and decoding" in finding.evidence
    slow = {"data_wait_share": 0.5, "read_seconds": 0.001, "crop_seconds": 0.002}
    (finding,) = examine(past(**slow), facts())
    assert "The slow stage is cropping" in finding.evidence


# ---- recorded runs ------------------------------------------------------------------------------

# Lines of metrics.jsonl of the quickstarts: as they are, and broken on purpose by the `settings`
# beside them (epsilon 1, rate 100, 100,000 prototypes, a folder of 1,500 copies of one image).


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_runs_are_judged_rightly_at_every_moment(name):
    record = RECORDED[name]
    rows = (zip(record["metrics"], row, strict=True) for row in record["lines"])
    lines = [{name: value for name, value in row if value is not None} for row in rows]
    config = config_lib.defaults(record["method"]) if "method" in record else small()
    config.update_from_flattened_dict(record["settings"])
    run = Facts(config, Sizes(*record["run"]), record["variance_ratio"])
    so_far, ever = History(), set()
    for line in lines:
        so_far.add(line)
        ever.update(names(examine(so_far, run)))
    assert ever == set(record["findings"])
