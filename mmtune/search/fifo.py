"""No early stopping: every trial trains to its end, or to the budget's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


class StudyFifo(FIFOScheduler):
    """No early stopping but the budget's."""

    def __init__(self, *, epochs: int, is_spent: Callable[[], bool]) -> None:
        super().__init__()
        self._epochs, self._is_spent = epochs, is_spent

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        is_last = result.get("epoch", self._epochs) >= self._epochs
        return TrialScheduler.STOP if self._is_spent() and not is_last else TrialScheduler.CONTINUE

    def __getstate__(self) -> dict[str, Any]:
        return {}
