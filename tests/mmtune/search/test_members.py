"""Trials as the schedule sees them."""

import math

from mmtune.records import PAUSED, RUNNING
from mmtune.search.members import Members, points
from mmtune.search.trials import TrialRecord, Trials


def make(mode, *rows, family=None, until=3):
    trials = Trials(metric="val_accuracy", mode=mode, max_epochs=9)
    record = TrialRecord("t0007", RUNNING, until=until, rows=[{"epoch": n, **row} for n, row in enumerate(rows, 1)])
    trials["t0007"] = record
    return record, Members(trials, family=family, params_of=lambda number: {"family": "text", "number": number})


def test_values_are_the_best_so_far_and_smaller_is_better():
    rows = [{"val_accuracy": value} for value in (0.5, 0.7, 0.6)]
    for mode, bests in (("max", (-0.5, -0.7, -0.7)), ("min", (0.5, 0.5, 0.5))):
        (member,) = make(mode, *rows)[1].all()
        assert member.bests == bests and (member.number, member.until) == (7, 3)
    assert make("max", {}, {"val_accuracy": 0.1})[1].all()[0].bests == (math.inf, -0.1)


def test_the_price_of_an_epoch_is_the_median_that_was_paid():
    rows = [{"val_accuracy": 0.5, "device_seconds": seconds} for seconds in (9.0, 1.0, 2.0)]
    assert make("max", *rows)[1].all()[0].seconds == 2.0
    assert make("max", {"val_accuracy": 0.5})[1].all()[0].seconds is None


def test_the_family_is_the_studys_or_the_trials_own():
    assert make("max", family="fusion")[1].all()[0].family == "fusion"
    assert make("max")[1].all()[0].family == "text"


def test_a_change_of_a_trial_is_seen():
    record, members = make("max", {"val_accuracy": 0.5}, until=None)
    first = members.all()[0]
    assert first.until == 9  # of a study from before there were rungs
    assert members.all()[0] is first
    record.add({"epoch": 2, "val_accuracy": 0.6})
    assert members.all()[0].bests == (-0.5, -0.6)
    record.state, record.until = PAUSED, 2
    assert (members.all()[0].state, members.all()[0].until) == (PAUSED, 2)


def test_several_objectives_are_as_they_were_at_each_epoch():
    trials = Trials(metric="val_accuracy", mode="max", max_epochs=9)
    record = trials.start("t0000", {}, until=9)
    values = [(0.5, 0.3, 1.0, 2.0), (0.4, 0.9, 3.0, 2.0), (0.7, 0.2, 2.0, 5.0)]
    for epoch, (accuracy, f1, memory, seconds) in enumerate(values, start=1):
        row = {"val_accuracy": accuracy, "val_macro_f1": f1, "peak_memory_gib": memory, "device_seconds": seconds}
        record.rows.append({"epoch": epoch, **row})
    record.facts["num_parameters"] = 7
    names = [("val_accuracy", "max"), ("val_macro_f1", "max"), ("peak_memory_gib", "min"), ("device_seconds", "min")]
    found = points(record, [*names, ("num_parameters", "min"), ("inference_ms_single", "min")])
    assert found == (
        (-0.5, -0.3, 1.0, 2.0, 7, math.inf),
        (-0.5, -0.3, 3.0, 4.0, 7, math.inf),  # the best epoch is still the first
        (-0.7, -0.2, 3.0, 9.0, 7, math.inf),
    )
