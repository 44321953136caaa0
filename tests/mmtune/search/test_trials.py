"""What is known of trials: best epochs, sums, and who is over."""

from mmtune import records
from mmtune.search.trials import TrialRecord, Trials


def trials_of(**rows):
    """Trials of which each is a state and its losses by epoch."""
    trials = Trials(metric="val_loss", mode="min", max_epochs=3)
    for name, (state, *losses) in rows.items():
        reports = [{"epoch": i + 1, "val_loss": loss, "device_seconds": 2.0} for i, loss in enumerate(losses)]
        trials[name] = TrialRecord(name, state, rows=reports)
    return trials


def test_the_best_is_the_best_epoch_of_a_trial_that_did_not_fail():
    trials = trials_of(
        a=(records.COMPLETE, 0.5, 0.3, 0.4),
        b=(records.PRUNED, 0.3),
        c=(records.FAILED, 0.1),
        d=(records.INFEASIBLE,),
        e=(records.RUNNING, None, 0.6),
    )
    best = trials.best()
    assert best is trials["a"]  # the first of equals
    assert trials.best_row(best) == {"epoch": 2, "val_loss": 0.3, "device_seconds": 2.0}
    assert trials.best_row(trials["d"]) is None
    assert trials.over() == ["a", "b", "c", "d"]
    assert trials.unfinished() == [trials["e"]]


def test_sums_and_values_by_epoch():
    trials = trials_of(a=(records.RUNNING, 0.5, None, 0.4), b=(records.WAITING,))
    assert trials.objective_by_epoch("a") == {1: 0.5, 3: 0.4}
    assert trials.objective_by_epoch("b") == trials.objective_by_epoch("unknown") == {}
    assert trials.device_seconds() == trials["a"].total("device_seconds") == 6.0
    assert (trials["a"].epoch, trials["b"].epoch) == (3, 0)
    assert trials.best() is trials["a"]
