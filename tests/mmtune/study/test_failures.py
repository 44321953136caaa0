"""Which failures are the study's own."""

import errno

import pytest

from mmtune import records
from mmtune.search.trials import TrialRecord
from mmtune.study.failures import all_failed, cause, equal_failures, fault_in, to_retry
from trainables.errors import StorageError

DISK = "ValueError: no space left on /data/t{}"


def trials_of(*ends):
    """A trial an end: 'ok', or its error; each ended a second later than the one before."""
    found = []
    for number, end in enumerate(ends):
        state = records.COMPLETE if end == "ok" else records.INFEASIBLE if "memory" in end else records.FAILED
        error = None if end == "ok" else end
        found.append(TrialRecord(f"t{number:04d}", state, error=error, ended=f"2026-01-01T00:00:{number:02d}Z"))
    return found


@pytest.mark.parametrize(
    "ends, count",
    [
        (["ok", DISK.format(1), DISK.format(2), DISK.format(3)], 3),  # numbers in a message may differ
        ([DISK.format(1), DISK.format(2), "ok", DISK.format(3)], 1),
        ([DISK.format(1), "ValueError: other", DISK.format(2)], 1),
        ([DISK.format(1), DISK.format(2), "ok"], 0),
        (["NonFiniteError: train_loss became nan in epoch 1"] * 4, 0),  # of the params
        (["out of memory on cuda:0"] * 4, 0),
        ([], 0),
    ],
)
def test_the_same_error_in_a_row(ends, count):
    assert len(equal_failures(trials_of(*ends))) == count


def test_a_trial_that_still_runs_does_not_break_the_row():
    trials = trials_of(DISK.format(1), DISK.format(2))
    trials.insert(1, TrialRecord("t0009", records.RUNNING))
    assert len(equal_failures(trials)) == 2
    assert [trial.trial for trial in equal_failures(trials, retried=["t0001"])] == ["t0000"]


def test_no_trial_has_a_result():
    assert all_failed(trials_of(DISK.format(1), "out of memory"))
    assert not all_failed(trials_of(DISK.format(1), "ok")) and not all_failed([])
    assert not all_failed([*trials_of(DISK.format(1)), TrialRecord("t0009", records.RUNNING)])


def test_the_cause_is_what_most_trials_have_in_common():
    assert cause(trials_of("other", DISK.format(1), DISK.format(2))) == f"{DISK.format(1)} (and 1 with other errors)"
    assert cause(trials_of(DISK.format(1), DISK.format(2))) == DISK.format(1)


def test_what_is_tried_again():
    def names(ends, **options):
        return [trial.trial for trial in to_retry(trials_of(*ends), **{"most_equal": 3, **options})]

    errors = [DISK.format(number) for number in range(3)]
    assert names(["ok", *errors]) == ["t0001", "t0002", "t0003"]
    assert names(["ok", *errors], most_equal=0) == names(["ok", *errors[:2]]) == names([]) == []
    assert names(errors[:2]) == ["t0000", "t0001"]  # nothing but failures, however few
    assert names([*errors[:2], errors[2]], retried=["t0000", "t0001"]) == ["t0002"]


def test_a_fault_of_storage_is_found_behind_what_was_raised_from_it():
    def raised(error, cause=None):
        try:
            raise error from cause
        except Exception as caught:
            return caught

    full = OSError(errno.ENOSPC, "No space left on device", "/data/reports.csv")
    assert fault_in(full) == "/data/reports.csv: No space left on device"
    assert fault_in(raised(RuntimeError("Tune fell"), raised(KeyError(1), full))) == fault_in(full)
    assert fault_in(StorageError("cache folder /c cannot be written")) == "cache folder /c cannot be written"
    for other in (RuntimeError("x"), ConnectionResetError(errno.ECONNRESET, "reset"), TimeoutError(), ValueError("x")):
        assert fault_in(raised(other)) is None
