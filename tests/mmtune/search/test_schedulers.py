"""ASHA by the epoch, with rungs that survive a new session."""

import random
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from mmtune.records import COMPLETE, PRUNED, StudyFolder
from mmtune.search.rungs import Rules
from mmtune.search.schedulers import SCHEDULERS, AshaOptions, make_scheduler
from mmtune.study.ledger import Ledger

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


def make(tmp_path, *, mode="max", epochs=9, spent=lambda: False, name="asha_stopping"):
    ledger = Ledger(StudyFolder(tmp_path), objective=("val_accuracy", mode), params={}, max_epochs=epochs)
    given = {} if name == "none" else {"grace_epochs": 1}  # of asha a rung at 1, 3, 9; a third goes on
    options = SCHEDULERS[name].options(**given)
    return ledger, make_scheduler(name, options=options, trials=ledger.trials, is_spent=spent)


def trial(name):
    return SimpleNamespace(trial_id=f"tune-{name}", config={"trial": name})


def feed(ledger, scheduler, name, epoch, value):
    ledger.add(name, {"epoch": epoch, "val_accuracy": value, "device_seconds": 1.0})
    return scheduler.on_trial_result(None, trial(name), {"epoch": epoch, "value": value})


def add(ledger, scheduler, *names):
    for name in names:
        ledger.start(name, {})
        scheduler.on_trial_add(None, trial(name))


def test_of_a_rung_a_third_goes_on_where_trials_are_counted_else_a_quarter():
    kind = SCHEDULERS["asha"]
    by_default = [kind.rules(kind.options(), 27, counts_trials) for counts_trials in (True, False)]
    assert [(rules.rungs, rules.eta) for rules in by_default] == [((2, 6, 27), 3), ((2, 6, 27), 4)]
    given = [kind.rules(AshaOptions(reduction_factor=2), 27, counts_trials) for counts_trials in (True, False)]
    assert [(rules.rungs, rules.eta) for rules in given] == [((2, 4, 8, 16, 27), 2)] * 2
    kind = SCHEDULERS["hyperband"]
    assert kind.rules(kind.options(), 27, False) == Rules((2, 6, 27), eta=3, brackets=3)


def test_a_rung_keeps_what_is_in_its_top_third(tmp_path):
    ledger, scheduler = make(tmp_path)
    names = [f"t{index}" for index in range(4)]
    add(ledger, scheduler, *names)
    # The cutoff is the 2/3 percentile of those that came before: none; .5; .5 + .4 * 2/3 = .767; with the stopped
    # .76 too, .76 + .14 / 3 = .807.
    scores = (0.5, 0.9, 0.76, 0.81)
    decisions = [feed(ledger, scheduler, name, 1, score) for name, score in zip(names, scores, strict=True)]
    assert decisions == [CONTINUE, CONTINUE, STOP, CONTINUE]
    assert feed(ledger, scheduler, "t0", 2, 0.0) == CONTINUE  # no rung at 2


def test_the_mode_is_respected(tmp_path):
    ledger, scheduler = make(tmp_path, mode="min")
    add(ledger, scheduler, "a", "b", "c")
    assert [feed(ledger, scheduler, name, 1, value) for name, value in (("a", 0.5), ("b", 0.6), ("c", 0.4))] == [
        CONTINUE, STOP, CONTINUE,
    ]  # fmt: skip


def test_the_last_epoch_is_left_to_the_trial(tmp_path):
    ledger, scheduler = make(tmp_path, epochs=9)  # 9 is a rung
    add(ledger, scheduler, "a", "b")
    for epoch in range(1, 10):
        assert feed(ledger, scheduler, "a", epoch, 0.9) == CONTINUE
    for epoch in (1, 3):
        feed(ledger, scheduler, "b", epoch, 0.9)
    assert feed(ledger, scheduler, "b", 9, 0.1) == CONTINUE
    assert scheduler.on_trial_result(None, trial("b"), {"end": {"state": COMPLETE}}) == CONTINUE


@pytest.mark.parametrize("value", [0.3, 0.6, 0.71, 0.79, 0.95])
def test_a_new_session_decides_as_the_old_one_would(tmp_path, value):
    a, b, c, d, new = (f"t{number:04d}" for number in range(5))
    ledger, scheduler = make(tmp_path)
    add(ledger, scheduler, a, b, c, d, new)
    for name, score in ((a, 0.5), (b, 0.8), (c, 0.7)):
        feed(ledger, scheduler, name, 1, score)
    feed(ledger, scheduler, b, 2, 0.8)
    feed(ledger, scheduler, b, 3, 0.9)
    feed(ledger, scheduler, d, 1, 0.78)
    ledger.end(a, PRUNED)
    ledger.end(c, PRUNED)  # b and d were running when the driver died
    fresh_ledger, fresh = make(tmp_path)
    add(fresh_ledger, fresh, b, d, new)
    # Rung 1 has .5, .7, .78 and .8, whose 2/3 percentile is .78; rung 3 has b's .9 alone.
    # d resumes at epoch 2: it is not judged again at rung 1 with a later value
    assert fresh.on_trial_result(None, trial(d), {"epoch": 2, "value": 0.0}) == CONTINUE
    for item in (scheduler, fresh):
        decision = item.on_trial_result(None, trial(new), {"epoch": 1, "value": value})
        assert decision == (CONTINUE if value >= 0.78 else STOP)
        assert item.on_trial_result(None, trial(d), {"epoch": 3, "value": value}) == (
            CONTINUE if value >= 0.9 else STOP
        )


@pytest.mark.parametrize("mode", ["max", "min"])
def test_ray_decides_alike(tmp_path, mode):
    """Ten trials in a shuffled order of arrival; Ray's own ASHA is shown the same reports."""
    ledger, scheduler = make(tmp_path, mode=mode, epochs=10)
    rule = {"grace_period": 1, "reduction_factor": 3, "max_t": 10, "stop_last_trials": False}
    rays = ASHAScheduler(time_attr="epoch", metric="value", mode=mode, **rule)
    rng = random.Random(0)
    names = [f"t{index}" for index in range(30)]
    add(ledger, scheduler, *names)
    for name in names:
        rays.on_trial_add(None, trial(name))
    epochs, stopped = dict.fromkeys(names, 0), []
    while epochs:
        name = rng.choice(list(epochs))
        epochs[name] += 1
        value = rng.random()
        decision = feed(ledger, scheduler, name, epochs[name], value)
        assert decision == rays.on_trial_result(None, trial(name), {"epoch": epochs[name], "value": value})
        stopped += [name] * (decision == STOP)
        if decision == STOP or epochs[name] == 9:
            del epochs[name]
    assert 10 < len(stopped) < 30


@pytest.mark.parametrize("name", ["asha", "asha_stopping", "none"])
def test_a_spent_budget_stops_every_trial_at_its_next_report(tmp_path, name):
    spent = []
    ledger, scheduler = make(tmp_path, spent=lambda: bool(spent), name=name)
    add(ledger, scheduler, "a")
    assert feed(ledger, scheduler, "a", 1, 0.9) == CONTINUE
    spent.append(True)
    assert feed(ledger, scheduler, "a", 2, 0.9) == STOP


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_median_rule_by_hand(tmp_path, mode):
    ledger, scheduler = make(tmp_path, name="median", mode=mode)
    sign, names = (1 if mode == "max" else -1), ["a", "b", "c", "d", "e"]
    add(ledger, scheduler, *names)

    def told(name, *values, start=1):
        return [feed(ledger, scheduler, name, start + at, sign * value) for at, value in enumerate(values)]

    assert told("a", 0.2, 0.4) + told("b", 0.5, 0.7) + told("c", 0.3, 0.5) == [CONTINUE] * 6  # fewer than 3 others
    # Averages up to epoch 1: .2, .5, .3, median .3; up to epoch 2: .3, .6, .4, median .4.
    assert told("d", 0.3, 0.39) == [CONTINUE, STOP]
    assert told("e", 0.31) == [CONTINUE]  # beside d's .3 the median is .3
    assert told("e", 0.38, start=2) == [CONTINUE]  # of .3, .6, .4 and d's .345 the median is .3725
