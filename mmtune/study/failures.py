"""When failures are the study's own: every trial failed, the same error came again and again, or storage failed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable

from mmtune import records
from mmtune.search.trials import TrialRecord
from trainables.errors import fault_text, is_fault

_DIVERGED = "NonFiniteError"  # of the params, as a full memory is: no reason to think that the next will fail too


def fault_in(error: BaseException | None) -> str | None:
    """What failed beside the study, of an error or of those that it was raised from; None of any other."""
    while error is not None:
        if is_fault(error):
            return fault_text(error)
        error = error.__cause__ or error.__context__
    return None


def all_failed(trials: Iterable[TrialRecord]) -> bool:
    """Whether there are trials, all of them over and none with a result."""
    states = {trial.state for trial in trials}
    return bool(states) and states <= {records.FAILED, records.INFEASIBLE}


def may_pass(trial: TrialRecord) -> bool:
    """Whether it failed of what is not its own, so that the same again may succeed.

    Divergence comes back to the digit, and a full memory with it.
    """
    return trial.state == records.FAILED and not (trial.error or "").startswith(_DIVERGED)


def equal_failures(trials: Iterable[TrialRecord], *, retried: Collection[str] = ()) -> list[TrialRecord]:
    """The trials that failed last, one after the other with the same error; numbers in it may differ.

    Args:
        trials: in any order.
        retried: trials that were handed out again since, which do not count.
    """
    ended = [trial for trial in trials if trial.is_over and trial.trial not in retried]
    found: list[TrialRecord] = []
    for trial in sorted(ended, key=lambda trial: (trial.ended or "", trial.trial), reverse=True):
        error = trial.error or ""
        if trial.state != records.FAILED or error.startswith(_DIVERGED):
            break
        if found and _without_numbers(error) != _without_numbers(found[0].error or ""):
            break
        found.append(trial)
    return found


def cause(trials: Iterable[TrialRecord]) -> str:
    """The error that most of ``trials`` have in common, and how many others there are."""
    errors = [trial.error or "unknown error" for trial in trials]
    kinds = Counter(map(_without_numbers, errors))
    kind, count = kinds.most_common(1)[0]
    first = next(error for error in errors if _without_numbers(error) == kind)
    others = f" (and {len(errors) - count} with other errors)" if len(errors) > count else ""
    return first + others


def to_retry(trials: Collection[TrialRecord], *, most_equal: int, retried: Collection[str] = ()) -> list[TrialRecord]:
    """What a new session runs again, as the cause may be gone: the failures that ended the last one.

    Args:
        trials: all of the study.
        most_equal: ``resources.max_equal_failures``.
        retried: trials that were handed out again before.
    """
    if all_failed(trials):
        return [trial for trial in trials if trial.trial not in retried]
    last = equal_failures(trials, retried=retried)
    return sorted(last, key=lambda trial: trial.trial) if most_equal and len(last) >= most_equal else []


def _without_numbers(error: str) -> str:
    return re.sub(r"\d+", "#", error)
