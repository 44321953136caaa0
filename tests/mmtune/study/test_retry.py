"""Failed trials run again under their ids: what is written before the session begins."""

from __future__ import annotations

import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from analysis.studies import study_cost
from mmtune import records
from mmtune.records import read_json
from mmtune.search.journal import Journal, take_back_ends
from mmtune.space.optuna_names import suggest
from mmtune.spec.search_spec import load_spec
from mmtune.study import budget
from mmtune.study.create import create_study
from mmtune.study.ledger import open_ledger
from mmtune.study.retry import reopen_failed

SPEC = load_spec("""\
study: s
family: text
dataset: openclipart
fixed: {epochs: 4}
space:
  optim.lr: {type: float, low: 0.0001, high: 0.01, log: true}
budget: {trials: 6}
""")
ENDS = [
    (records.COMPLETE, None), (records.FAILED, "RuntimeError: a cable was pulled"),
    (records.FAILED, "NonFiniteError: loss became nan"), (records.INFEASIBLE, "out of memory on cuda:0"),
    (records.FAILED, "OSError: no space left"), (records.PRUNED, None),
]  # fmt: skip
METRICS = [("val_accuracy", "max")]
STATES = {records.COMPLETE: TrialState.COMPLETE, records.PRUNED: TrialState.PRUNED}


@pytest.fixture
def study(tmp_path):
    """Six trials of two epochs each, all over; t0004 ran again under another number."""
    folder = create_study(SPEC, storage=tmp_path)
    ledger, journal = open_ledger(folder, SPEC, read_json(folder.info)), journal_of(folder)
    for number, (state, error) in enumerate(ENDS):
        trial, name = journal.ask(RandomSampler(seed=number)), records.trial_id(number)
        ledger.start(name, suggest(SPEC.space, trial), until=4)
        for epoch in (1, 2):
            ledger.add(name, {"epoch": epoch, "val_accuracy": 0.1 * epoch, "device_seconds": 3.0})
            journal.report(number, {epoch: 0.1 * epoch})
        ledger.end(name, state, error=error)
        journal.note(number, device_seconds=6.0, **({} if error is None else {"error": error}))
        values = [0.2] if state == records.COMPLETE else None
        journal.tell(number, values=values, state=None if values else STATES.get(state, TrialState.FAIL))
    ledger.close()
    records.write_json(folder.info, read_json(folder.info) | {"retried": ["t0004"]})
    return folder


def journal_of(folder):
    return Journal(folder.optuna_log, name="s", objectives=METRICS)


def test_what_may_pass_is_unfinished_again_and_the_rest_stays(study):
    before = {trial.number: trial for trial in journal_of(study).trials()}
    rows = {row["trial"]: row for row in records.read_rows(study.trials)}
    assert reopen_failed(study, SPEC, read_json(study.info)) == ["t0001"]
    after = {trial.number: trial for trial in journal_of(study).trials()}
    again = after.pop(1)
    assert after == {number: trial for number, trial in before.items() if number != 1}
    assert again.state == TrialState.RUNNING and again.user_attrs == {}
    assert (again.params, again.intermediate_values) == (before[1].params, before[1].intermediate_values)
    now = {row["trial"]: row for row in records.read_rows(study.trials)}
    changed = {key: value for key, value in now["t0001"].items() if value != rows["t0001"][key]}
    assert changed == {"state": records.RUNNING, "error": None, "ended": None}  # what it cost stays in the account
    assert {**now, "t0001": None} == {**rows, "t0001": None}
    assert not (study.trial("t0001") / "error.txt").exists() and (study.trial("t0002") / "error.txt").exists()
    assert reopen_failed(study, SPEC, read_json(study.info)) == []


def test_cut_short_between_optuna_and_the_ledger_nothing_is_lost(study):
    """The ledger says FAILED, which the next session tells Optuna again; another --retry-failed does it whole."""
    take_back_ends(study.optuna_log, [1])
    assert journal_of(study).trials(TrialState.RUNNING)[0].number == 1
    assert reopen_failed(study, SPEC, read_json(study.info)) == ["t0001"]
    assert journal_of(study).trials(TrialState.RUNNING)[0].number == 1


def test_a_study_whose_failures_are_tried_again_is_not_finished(study):
    info = read_json(study.info) | {"retried": []}

    def is_finished():
        return budget.is_finished(info, study_cost(study.root))

    assert is_finished()
    assert reopen_failed(study, SPEC, info) == ["t0001", "t0004"] and not is_finished()
