"""What Ray Tune does with a report where the epoch to train to is known before: it stops the trial there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from mmtune.search.trials import Trials

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


class ToItsEpoch(FIFOScheduler):
    """Stops a trial at the epoch that it was given, or at its next one once it breaks a constraint or the budget is
    spent."""

    def __init__(self, *, trials: Trials, is_spent: Callable[[], bool]) -> None:
        super().__init__()
        self._trials, self._is_spent = trials, is_spent

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        epoch = result.get("epoch")
        if epoch is None or epoch >= self._trials.max_epochs:  # it ends by itself
            return TrialScheduler.CONTINUE
        record = self._trials[trial.config["trial"]]
        is_there = record.until is not None and epoch >= record.until
        is_out = is_there or self._trials.violation(record) is not None or self._is_spent()
        return TrialScheduler.STOP if is_out else TrialScheduler.CONTINUE

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles what it is given; everything here comes from the study folder
