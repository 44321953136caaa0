"""Rules that stop for good: below the top of a rung (ASHA as Ray Tune has it), or below the median of the others."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from mmtune.search.toepoch import ToItsEpoch
from mmtune.search.trials import Trials

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


class StopBelow(ToItsEpoch):
    """The rule of ``ray.tune.schedulers.ASHAScheduler`` (after Li et al. 2020), decided from the ledger alone.

    Ray's own keeps its rungs in memory, and the snapshot that Tune resumes from leaves them out.

    Args:
        trials: has every report of the study, those of earlier sessions too.
        is_spent: whether the budget is used up.
        grace_epochs: first rung.
        reduction_factor: eta.
        brackets: parallel ladders, each starting one rung later.
    """

    def __init__(
        self,
        *,
        trials: Trials,
        is_spent: Callable[[], bool],
        grace_epochs: int,
        reduction_factor: int,
        brackets: int,
    ) -> None:
        super().__init__(trials=trials, is_spent=is_spent)
        self._grace, self._eta = grace_epochs, reduction_factor
        self._weights = [math.exp(-index) for index in range(brackets)]  # as in Ray fewer the later they begin
        self._bracket_of: dict[str, int] = {}

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        epoch = result.get("epoch")
        if decision != TrialScheduler.CONTINUE or epoch is None or epoch >= self._trials.max_epochs:
            return decision
        name, value = trial.config["trial"], result["value"]
        bracket = self._bracket(name)
        if epoch not in {self._grace * self._eta**rung for rung in range(bracket, bracket + epoch)}:
            return decision
        sign = 1.0 if self._trials.mode == "max" else -1.0
        before = [
            sign * there
            for other in list(self._trials)
            if other != name and self._bracket(other) == bracket
            if (there := self._trials.objective_at(other, epoch)) is not None and not math.isnan(there)
        ]
        is_below = bool(before) and sign * value < np.percentile(before, 100 * (1 - 1 / self._eta))
        return TrialScheduler.STOP if is_below else decision

    def _bracket(self, trial: str) -> int:
        """The ladder that a trial climbs, drawn from its number; drawn once, since a rung asks it of every trial."""
        if trial not in self._bracket_of:
            self._bracket_of[trial] = random.Random(trial).choices(range(len(self._weights)), self._weights)[0]
        return self._bracket_of[trial]


class StopBelowMedian(ToItsEpoch):
    """The median stopping rule (Golovin et al. 2017, section 3.2.2), decided from the ledger alone.

    A trial is stopped at an epoch where its best value so far is worse than the median of the other trials' values
    averaged over their epochs up to there.

    Args:
        trials: has every report of the study, those of earlier sessions too.
        is_spent: whether the budget is used up.
        grace_epochs: no trial is stopped before.
        least_trials: others that have come to the epoch, or nobody is stopped there.
    """

    def __init__(self, *, trials: Trials, is_spent: Callable[[], bool], grace_epochs: int, least_trials: int) -> None:
        super().__init__(trials=trials, is_spent=is_spent)
        self._grace, self._least = grace_epochs, least_trials

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        epoch = result.get("epoch")
        if decision != TrialScheduler.CONTINUE or epoch is None or epoch < self._grace:
            return decision
        name, sign = trial.config["trial"], 1.0 if self._trials.mode == "max" else -1.0
        if epoch >= self._trials.max_epochs:
            return decision
        others = [values for other in list(self._trials) if other != name and (values := self._until(other, epoch))]
        if len(others) < self._least:
            return decision
        median = statistics.median(sign * statistics.fmean(values) for values in others)
        best = max((sign * value for value in self._until(name, epoch)), default=-math.inf)
        return TrialScheduler.STOP if best < median else decision

    def _until(self, trial: str, epoch: int) -> list[float]:
        """The objective at each epoch up to one; empty if the trial did not come there."""
        by_epoch = self._trials.objective_by_epoch(trial)
        return [value for at, value in by_epoch.items() if at <= epoch] if epoch in by_epoch else []
