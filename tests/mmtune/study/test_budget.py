"""When a study's time is spent: that of its trials by the ledger, that of its sessions by the clock."""

import pytest

from mmtune import records
from mmtune.search.trials import TrialRecord, Trials
from mmtune.spec.search_spec import load_spec
from mmtune.study.budget import Account

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
