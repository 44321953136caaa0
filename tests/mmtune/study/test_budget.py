"""When a study's budget is spent: what its trials took by the ledger, the time of its sessions by the clock."""

from dataclasses import replace

import pytest

from analysis.studies import StudyCost
from mmtune import records
from mmtune.search.trials import TrialRecord, Trials
from mmtune.spec.search_spec import load_spec
from mmtune.study.budget import Account, is_finished

SEARCH = "study: s\nfamily: text\ndataset: openclipart\nbudget: {%s}\n"


@pytest.mark.parametrize(
    "budget, device_seconds, seconds_before, is_spent",
    [
        ("trials: 1", 1e9, 1e9, False),  # trials are the searcher's to count
        ("device_hours: 1", 3599.0, 1e9, False),
        ("device_hours: 1", 3600.0, 0.0, True),
        ("wall_hours: 1", 1e9, 3000.0, False),
        ("wall_hours: 1", 0.0, 3600.0, True),  # earlier sessions count
        ("trials: 9, device_hours: 1, wall_hours: 1", 0.0, 3600.0, True),
    ],
)
def test_a_limit_on_time(budget, device_seconds, seconds_before, is_spent):
    trials = Trials(metric="val_accuracy", mode="max", max_epochs=2)
    trials["t0000"] = TrialRecord("t0000", records.RUNNING, rows=[{"epoch": 1, "device_seconds": device_seconds}])
    account = Account(load_spec(SEARCH % budget).budget, trials, seconds_before)
    assert account.is_spent() is is_spent
    assert 0 <= account.session_seconds() < 60


def test_epochs_of_all_trials_count_each_once():
    trials = Trials(metric="val_accuracy", mode="max", max_epochs=9)
    account = Account(load_spec(SEARCH % "epochs: 5").budget, trials, 0.0)
    for name in ("t0000", "t0001"):
        trials.start(name, {}, until=3)
    counts = []
    for name, epoch in (("t0000", 1), ("t0001", 1), ("t0000", 2), ("t0001", 2), ("t0001", 3)):
        trials[name].add({"epoch": epoch, "val_accuracy": 0.5, "device_seconds": 1.0})
        counts.append((trials.num_epochs(), account.is_spent()))
    assert counts == [(1, False), (2, False), (3, False), (4, False), (5, True)]
    trials["t0000"].rows = trials["t0000"].rows[:1]  # to be trained again
    trials["t0000"].state = records.RUNNING
    assert trials.num_epochs() == 4
    assert account.seconds_left(devices=1) is None


@pytest.mark.parametrize(
    "limits, is_over",
    [
        ({"trials": 3}, True),
        ({"trials": 4}, False),
        ({"epochs": 12}, True),
        ({"epochs": 13}, False),
        ({"device_hours": 0.5}, True),
        ({"device_hours": 0.6}, False),
        ({"wall_hours": 0.25}, True),
        ({"wall_hours": 0.3}, False),
        ({"trials": 4, "device_hours": 0.5}, True),  # whichever comes first
    ],
)
def test_a_study_is_finished_when_a_limit_is_reached_and_no_trial_is_open(limits, is_over):
    info = {"budget": {"trials": None, **limits}, "sessions": [{"error": None, "seconds": 400}, {"seconds": 500}]}
    states = {records.COMPLETE: 1, records.PRUNED: 1, records.FAILED: 1}
    cost = StudyCost(
        device_hours=0.5, cache_hours=0.1, idle_hours=9.0, wall_hours=9.0, epochs=12, states=states, test_looks=0
    )
    assert is_finished(info, cost) is is_over
    assert not is_finished(info, replace(cost, states={**states, records.PAUSED: 1}))
    assert not is_finished(info, replace(cost, states={records.FAILED: 3}))
    assert not is_finished({**info, "sessions": [{"error": "the disk is full", "seconds": 900}]}, cost)
